"""Croissant metadata of a data set: JSON-LD by MLCommons' Croissant format 1.0 (Akhtar et al. 2024, 2403.19546), which
search engines and `mlcroissant` read. https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONFORMS = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
FORMATS = {"jsonl": "application/jsonlines", "parquet": "application/x-parquet"}
TYPES = {"text": "sc:Text", "flag": "sc:Boolean"}


def describe(
    *,
    name: str,
    what: str,
    url: str,
    licences: Sequence[str],
    languages: Sequence[str],
    published: str,
    version: str,
    files: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Mapping[str, str]],
    collection: str,
    personal: str,
) -> dict[str, Any]:
    """`published`: a date, YYYY-MM-DD. `files`: {name, bytes, sha256, set, format}; `columns`: set → column → its type:
    text | texts (a list of them) | flag | messages (a list of {role, content}). `collection`: how the rows were made;
    `personal`: what was looked for of personal data."""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": name,
        "description": what,
        "url": url,
        "license": licences[0] if len(licences) == 1 else list(licences),
        "inLanguage": list(languages),
        "creator": {"@type": "sc:Organization", "name": "breakfix"},
        "datePublished": published,
        "version": version,
        "isLiveDataset": False,
        "citeAs": f"{name}, {published}, {url}",
        "keywords": ["safety", "refusal", "preference"],
        "rai:dataCollection": collection,
        "rai:personalSensitiveInformation": personal,
        "distribution": [_file(file) for file in files],
        "recordSet": [_records(file, columns[file["set"]]) for file in files],
    }


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": file["name"],
        "name": file["name"],
        "contentUrl": file["name"],
        "contentSize": f"{file['bytes']} B",
        "encodingFormat": FORMATS[file["format"]],
        "sha256": file["sha256"],
    }


def _records(file: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    name = file["set"]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/id"},
        "field": [_field(file["name"], name, column, kind) for column, kind in columns.items()],
    }


def _field(file: str, records: str, column: str, kind: str) -> dict[str, Any]:
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{records}/{column}", "name": f"{records}/{column}"}
    if kind == "messages":
        parts = [_part(file, f"{records}/{column}", column, part) for part in ("role", "content")]
        return {**field, "repeated": True, "subField": parts}
    field |= {"dataType": TYPES.get(kind, "sc:Text"), "source": _source(file, column)}
    return field | ({"repeated": True} if kind == "texts" else {})


def _part(file: str, id: str, column: str, part: str) -> dict[str, Any]:
    source = {**_source(file, column), "transform": {"jsonPath": f"$[*].{part}"}}
    return {"@type": "cr:Field", "@id": f"{id}/{part}", "name": f"{id}/{part}", "dataType": "sc:Text", "source": source}


def _source(file: str, column: str) -> dict[str, Any]:
    return {"fileObject": {"@id": file}, "extract": {"column": column}}
