"""The object store's clients, as the page shows them, against the stack's store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pandom.host.access import variables
from tests.clients.node import module, needs_node, run
from tests.clients.page import code
from tests.fixtures.stack import RunningStack


@pytest.fixture
def store(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The process's environment, as `pandom env` describes the store."""
    described = variables(stack.outputs, None)
    for name, value in described.items():
        monkeypatch.setenv(name, value)
    # What an account's own files and variables of S3 say is none of this.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    return described


def run_page(section: str, text: str | None = None) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text or code(section), f"docs/clients.md, {section}", "exec"), names)  # noqa: S102
    return names


@pytest.mark.requirement("B3")
def test_boto3_as_the_page_shows_it(store: dict[str, str]) -> None:
    names = run_page("boto3")
    assert names["found"] == b"from boto3"
    s3, bucket = names["s3"], store["MINIO_BUCKET_NAME"]
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="boto3")["Contents"]
    assert "boto3.txt" in [one["Key"] for one in listed]
    started = s3.create_multipart_upload(Bucket=bucket, Key="boto3.parts")
    part: dict[str, Any] = {"Bucket": bucket, "Key": "boto3.parts", "UploadId": started["UploadId"]}
    made = s3.upload_part(**part, PartNumber=1, Body=b"one part")
    parts = [{"ETag": made["ETag"], "PartNumber": 1}]
    s3.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    for delete in (
        lambda: s3.delete_object(Bucket=bucket, Key="boto3.txt"),
        lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "boto3.txt"}]}),
    ):
        with pytest.raises((ClientError, LookupError)):  # else it says what it deleted
            delete()["Deleted"][0]  # type: ignore[no-untyped-call]
    assert s3.get_object(Bucket=bucket, Key="boto3.txt")["Body"].read() == b"from boto3"


@needs_node
@pytest.mark.requirement("B3")
def test_the_sdk_for_javascript_as_the_page_shows_it(store: dict[str, str], packages: Path) -> None:
    text = code("AWS SDK for JavaScript 3", "javascript") + "\nconsole.log(found);"
    assert module(text, packages, store).strip() == "from the SDK"


@pytest.mark.requirement("B3")
def test_minio_as_the_page_shows_it(store: dict[str, str]) -> None:
    assert run_page("minio")["found"] == b"from minio"


def test_control_without_the_authority_nobody_connects(
    store: dict[str, str], packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import certifi

    monkeypatch.setenv("MINIO_CA", certifi.where())
    with pytest.raises(Exception, match=r"(?i)certificate"):
        run_page("boto3")
    text = code("AWS SDK for JavaScript 3", "javascript")
    command = ["node", "--input-type=module", "--eval", text]
    said = run(command, packages, {**store, "MINIO_CA": certifi.where()}, code=1)
    assert "certificate" in said
