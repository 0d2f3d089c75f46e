"""Fills a running moto, or shows what it holds, and prints the tags of each repository with their digests as JSON.

Arguments: its address, and `fill` or `show`.
"""

import hashlib
import json
import sys
import time

import boto3
from botocore.config import Config

endpoint, step = sys.argv[1:]
ecr = boto3.client(
    "ecr",
    endpoint_url=endpoint,
    region_name="eu-central-1",
    aws_access_key_id="AKIDOFMOTO",
    aws_secret_access_key="secret-of-moto",
    config=Config(proxies={}),
)


def manifest(name):
    """An image of one layer, whose name makes it another one."""

    def descriptor(kind, text):
        digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        return {"mediaType": kind, "digest": digest, "size": len(text)}

    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": descriptor("application/vnd.docker.container.image.v1+json", f"config of {name}"),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", f"layer of {name}")],
        }
    )


if step == "fill":
    ecr.create_repository(repositoryName="shop/api")
    for name, tags in [("1", ["build-1"]), ("2", ["build-2", "release-2"]), ("3", ["build-3"]), ("9", ["release-9"])]:
        for tag in tags:
            content = manifest(name)
            # Without one, moto makes a digest of the layers alone.
            digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
            ecr.put_image(repositoryName="shop/api", imageManifest=content, imageTag=tag, imageDigest=digest)
        time.sleep(1.1)

found = {}
for page in ecr.get_paginator("describe_repositories").paginate():
    for repository in page["repositories"]:
        name = repository["repositoryName"]
        tags = found.setdefault(name, {})
        for images in ecr.get_paginator("describe_images").paginate(repositoryName=name):
            for image in images["imageDetails"]:
                tags.update({tag: image["imageDigest"] for tag in image.get("imageTags", [])})
print(json.dumps({name: dict(sorted(tags.items())) for name, tags in found.items()}))
