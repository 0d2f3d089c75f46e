"""Reads, locks, unlocks and deletes with the Azure client library for Python, and prints what it saw as JSON.

Arguments: the registry's URL, the Entra token to show, the file of the certificate authority to trust.
"""

import json
import sys
import time

from azure.containerregistry import ArtifactTagOrder, ContainerRegistryClient
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

endpoint, token, authority = sys.argv[1:]


class Credential:
    def get_token(self, *scopes, **_):
        return AccessToken(token, int(time.time()) + 3600)


def refusal(call):
    """The status and the code that a call was refused with."""
    try:
        call()
    except HttpResponseError as error:
        return f"{error.status_code} {json.loads(error.response.text())['errors'][0]['code']}"
    return "allowed"


saw = {}
with ContainerRegistryClient(endpoint, Credential(), connection_verify=authority, retry_total=0) as client:
    saw["repositories"] = list(client.list_repository_names(results_per_page=1))
    repository = client.get_repository_properties("shop/api")
    saw["counts"] = [repository.manifest_count, repository.tag_count]
    tags = list(client.list_tag_properties("shop/api", results_per_page=2))
    saw["tags"] = [tag.name for tag in tags]
    newest = ArtifactTagOrder.LAST_UPDATED_ON_DESCENDING
    ordered = client.list_tag_properties("shop/api", order_by=newest, results_per_page=2)
    saw["newest_first"] = [tag.name for tag in ordered]
    manifests = list(client.list_manifest_properties("shop/api", results_per_page=2))
    saw["manifests"] = {manifest.digest: manifest.tags or [] for manifest in manifests}
    one = client.get_manifest_properties("shop/api", "v1")
    saw["v1"] = [one.digest, str(one.architecture.value), str(one.operating_system.value), one.size_in_bytes]
    before = client.get_tag_properties("shop/api", "v1")
    saw["times"] = [before.created_on.isoformat(), before.last_updated_on.isoformat()]

    locked = client.update_tag_properties("shop/api", "v1", can_delete=False, can_write=False)
    saw["locked"] = [locked.can_delete, locked.can_write, locked.can_read, locked.last_updated_on == before.last_updated_on]
    saw["delete_locked"] = refusal(lambda: client.delete_tag("shop/api", "v1"))
    unlocked = client.update_tag_properties("shop/api", "v1", can_delete=True, can_write=True)
    saw["unlocked"] = [unlocked.can_delete, unlocked.can_write]

    client.delete_tag("shop/api", "v1")
    saw["after_untag"] = [tag.name for tag in client.list_tag_properties("shop/api")]
    saw["manifest_after_untag"] = client.get_manifest_properties("shop/api", one.digest).digest
    client.delete_manifest("shop/api", one.digest)
    saw["manifest_after_delete"] = refusal(lambda: client.get_manifest_properties("shop/api", one.digest))
    client.delete_repository("shop/web")
    saw["repositories_after"] = list(client.list_repository_names())
    saw["unknown_repository"] = refusal(lambda: list(client.list_tag_properties("no/such")))

print(json.dumps(saw))
