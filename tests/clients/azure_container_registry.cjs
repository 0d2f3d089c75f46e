// Reads, locks, unlocks and deletes with the Azure client library for JavaScript, and prints what it saw as JSON.
//
// Arguments: the registry's URL and the Entra token to show. Node.js is told which certificate authority to trust.

const { ContainerRegistryClient } = require("@azure/container-registry");

const [endpoint, token] = process.argv.slice(2);
const credential = { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_600_000 }) };

/** All elements, page by page, and how many pages they came on. */
async function pages(listed, size) {
  const all = [];
  let count = 0;
  for await (const page of listed.byPage({ maxPageSize: size })) {
    all.push(...page);
    count += 1;
  }
  return { all, count };
}

/** The status and the code that a call was refused with. */
async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const body = error.response ? JSON.parse(error.response.bodyAsText) : { errors: [{ code: String(error) }] };
    return `${error.statusCode} ${body.errors[0].code}`;
  }
  return "allowed";
}

async function main() {
  const options = { audience: "https://containerregistry.azure.net", retryOptions: { maxRetries: 0 } };
  const client = new ContainerRegistryClient(endpoint, credential, options);
  const saw = {};
  const repositories = await pages(client.listRepositoryNames(), 1);
  saw.repositories = repositories.all;
  saw.repository_pages = repositories.count;

  const repository = client.getRepository("shop/api");
  const properties = await repository.getProperties();
  saw.counts = [properties.manifestCount, properties.tagCount];
  const manifests = await pages(repository.listManifestProperties(), 2);
  saw.manifests = Object.fromEntries(manifests.all.map((manifest) => [manifest.digest, manifest.tags ?? []]));
  saw.manifest_pages = manifests.count;

  const artifact = repository.getArtifact("v1");
  const tags = await pages(artifact.listTagProperties(), 2);
  saw.tags = tags.all.map((tag) => tag.name);
  saw.tag_pages = tags.count;
  const newest = await pages(artifact.listTagProperties({ order: "LastUpdatedOnDescending" }), 2);
  saw.newest_first = newest.all.map((tag) => tag.name);
  const manifest = await artifact.getManifestProperties();
  saw.v1 = [manifest.digest, manifest.architecture, manifest.operatingSystem, manifest.sizeInBytes];
  const before = await artifact.getTagProperties("v1");
  saw.times = [before.createdOn.toISOString(), before.lastUpdatedOn.toISOString()];

  const locked = await artifact.updateTagProperties("v1", { canDelete: false, canWrite: false });
  saw.locked = [locked.canDelete, locked.canWrite, locked.canRead, +locked.lastUpdatedOn === +before.lastUpdatedOn];
  saw.delete_locked = await refusal(() => artifact.deleteTag("v1"));
  const unlocked = await artifact.updateTagProperties("v1", { canDelete: true, canWrite: true });
  saw.unlocked = [unlocked.canDelete, unlocked.canWrite];

  await artifact.deleteTag("v1");
  saw.tag_after_untag = await refusal(() => artifact.getTagProperties("v1"));
  const byDigest = repository.getArtifact(manifest.digest);
  saw.manifest_after_untag = (await byDigest.getManifestProperties()).digest;
  await byDigest.delete();
  saw.manifest_after_delete = await refusal(() => byDigest.getManifestProperties());
  await client.deleteRepository("shop/web");
  saw.repositories_after = (await pages(client.listRepositoryNames(), 100)).all;
  console.log(JSON.stringify(saw));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
