"""Reads, removes and puts back images with Amazon's client for Python, and prints what it saw as JSON.

Arguments: the address of the API, an access key and its secret, the digest of an image that an index lists.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, key, secret, listed = sys.argv[1:]
saw = {}
unknown = []


def check(shape, value, at):
    """Notes the members of an answer that the published description does not have."""
    if shape.type_name == "structure":
        for name, member in value.items():
            if name in shape.members:
                check(shape.members[name], member, f"{at}.{name}")
            else:
                unknown.append(f"{at}.{name}")
    elif shape.type_name == "list":
        for row in value:
            check(shape.member, row, f"{at}[]")


def answered(http_response, parsed, model, **_):
    if http_response.status_code == 200:
        check(model.output_shape, json.loads(http_response.content), model.name)


def client(secret):
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return boto3.client(
        "ecr",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
    )


def refusal(call, **arguments):
    """The code that a call was refused with."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "allowed"


ecr = client(secret)
ecr.meta.events.register("after-call.ecr", answered)
shop = {"repositoryName": "shop/api"}


def failures(**image):
    answer = ecr.batch_delete_image(**shop, imageIds=[image])
    return [failure["failureCode"] for failure in answer["failures"]]


def tags_of(digest):
    return ecr.describe_images(**shop, imageIds=[{"imageDigest": digest}])["imageDetails"][0]["imageTags"]


repositories = ecr.get_paginator("describe_repositories").paginate()
saw["repositories"] = [row["repositoryName"] for page in repositories for row in page["repositories"]]
pages = list(ecr.get_paginator("describe_images").paginate(**shop, PaginationConfig={"PageSize": 2}))
images = [image for page in pages for image in page["imageDetails"]]
saw["images"] = {
    "pages": len(pages),
    "tags": sorted(tag for image in images for tag in image.get("imageTags", [])),
    "untagged": [image["imageDigest"] for image in images if "imageTags" not in image],
}
first = next(image for image in images if "v1" in image.get("imageTags", []))
multi = next(image for image in images if "multi" in image.get("imageTags", []))
digest = first["imageDigest"]
saw["pushed"] = first["imagePushedAt"].astimezone(__import__("datetime").timezone.utc).isoformat()
saw["moved"] = failures(imageTag="v1", imageDigest=multi["imageDigest"])
saw["listed"] = failures(imageDigest=listed)
saw["nothing"] = failures()
stored = ecr.batch_get_image(**shop, imageIds=[{"imageDigest": digest}])["images"][0]
saw["untagged"] = ecr.batch_delete_image(**shop, imageIds=[{"imageTag": "v1"}])["imageIds"]
saw["after_untag"] = tags_of(digest)
again = {
    **shop,
    "imageManifest": stored["imageManifest"],
    "imageManifestMediaType": stored["imageManifestMediaType"],
    "imageDigest": digest,
    "imageTag": "v1",
}
ecr.put_image(**again)
saw["put_back"] = tags_of(digest)
saw["put_twice"] = refusal(ecr.put_image, **again)
for tag in ["v1", "stable"]:
    ecr.batch_delete_image(**shop, imageIds=[{"imageTag": tag}])
saw["after_last"] = refusal(ecr.describe_images, **shop, imageIds=[{"imageDigest": digest}])
saw["too_many"] = refusal(ecr.batch_get_image, **shop, imageIds=[{"imageTag": f"v{n}"} for n in range(101)])
saw["no_policy"] = refusal(ecr.get_lifecycle_policy, **shop)
saw["no_repository"] = refusal(ecr.describe_images, repositoryName="shop/none")
ecr.list_image_referrers(**shop, subjectId={"imageDigest": multi["imageDigest"]})
ecr.describe_pull_through_cache_rules()
saw["wrong_secret"] = refusal(client("another").describe_repositories)
saw["unknown_members"] = unknown
print(json.dumps(saw))
