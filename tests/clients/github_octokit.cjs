// Lists, deletes and restores versions with GitHub's client library for JavaScript, and prints what it saw as JSON.
//
// Arguments: the address of the REST API, a token that may do everything, and one that may only read.

const [endpoint, token, reader] = process.argv.slice(2);

/** The status and the words that a call was refused with. */
async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return `${error.status} ${error.response?.data?.message ?? error.message}`;
  }
  return "allowed";
}

async function main() {
  // The library is a module, which is not found by NODE_PATH alone.
  const { Octokit } = await import(require.resolve("@octokit/rest"));
  const silent = { debug() {}, info() {}, warn() {}, error() {} };
  const client = (auth) => new Octokit({ auth, baseUrl: endpoint, log: silent });
  const octokit = client(token);
  const org = "contoso";
  const container = { org, package_type: "container", package_name: "api" };
  const saw = {};

  const packages = await octokit.paginate(octokit.rest.packages.listPackagesForOrganization, {
    org,
    package_type: "container",
    per_page: 1,
  });
  saw.packages = packages.map((found) => [found.name, found.visibility, found.version_count]);

  let pages = 0;
  const listed = await octokit.paginate(
    octokit.rest.packages.getAllPackageVersionsForPackageOwnedByOrg,
    { ...container, per_page: 2 },
    (response) => {
      pages += 1;
      return response.data;
    },
  );
  saw.pages = pages;
  saw.versions = listed.map((version) => [version.name, version.metadata.container.tags]);
  saw.pushed = listed[0].created_at;
  const slashed = await octokit.rest.packages.getPackageForOrganization({
    ...container,
    package_name: "shop/web",
  });
  saw.slashed = slashed.data.name;

  const oldest = { ...container, package_version_id: listed.at(-1).id };
  const one = await octokit.rest.packages.getPackageVersionForOrganization(oldest);
  saw.one = one.data.metadata.container.tags;
  saw.scopes = one.headers["x-oauth-scopes"];
  saw.limit = one.headers["x-ratelimit-limit"];
  const deleteOldest = (by) => by.rest.packages.deletePackageVersionForOrg(oldest);
  saw.delete_as_reader = await refusal(() => deleteOldest(client(reader)));
  saw.deleted = (await deleteOldest(octokit)).status;
  saw.delete_again = await refusal(() => deleteOldest(octokit));
  saw.gone = await refusal(() => octokit.rest.packages.getPackageVersionForOrganization(oldest));
  const deleted = await octokit.rest.packages.getAllPackageVersionsForPackageOwnedByOrg({
    ...container,
    state: "deleted",
  });
  saw.deleted_versions = deleted.data.map((version) => [version.name, version.metadata.container.tags]);
  saw.restored = (await octokit.rest.packages.restorePackageVersionForOrg(oldest)).status;
  const back = await octokit.rest.packages.getPackageVersionForOrganization(oldest);
  saw.back = [back.data.id === oldest.package_version_id, back.data.metadata.container.tags];

  const single = { ...container, package_name: "shop/web" };
  const only = await octokit.rest.packages.getAllPackageVersionsForPackageOwnedByOrg(single);
  saw.last = await refusal(() =>
    octokit.rest.packages.deletePackageVersionForOrg({ ...single, package_version_id: only.data[0].id }),
  );
  saw.no_token = await refusal(() => client("ghp_nobody").rest.packages.getPackageForOrganization(container));
  saw.owner = (await octokit.rest.users.getByUsername({ username: org })).data.type;
  console.log(JSON.stringify(saw));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
