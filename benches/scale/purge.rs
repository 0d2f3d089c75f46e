//! An imitation of what `acr purge` of Azure/acr-cli asks of a registry, by its documented behaviour
//! (<https://github.com/Azure/acr-cli>): for one repository after the other, pages of 100 tags, the newest first; one
//! DELETE for each tag of a page that is to go, as many at once as `--concurrency` says (by default one for each CPU, at
//! most 32), and the next page once they are through; for `--untagged` pages of 100 manifests as well. It is no more
//! than that pattern of requests: it filters nothing and writes nothing down.

use std::error::Error;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

/// The argument that makes the bench this.
pub(super) const COMMAND: &str = "imitate-purge";

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<Tag>>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

#[derive(Deserialize)]
struct Manifests {
    manifests: Option<Vec<Manifest>>,
}

#[derive(Deserialize)]
struct Manifest {
    digest: String,
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

struct Client {
    http: reqwest::Client,
    url: String,
    user: String,
    password: String,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// `URL (list|DELETIONS AT ONCE) KEPT USER PASSWORD`: `list` is a dry run with `--untagged`.
pub(super) async fn purge(args: &[String]) -> Result<()> {
    let [url, how, kept, user, password] = args else { return Err("it takes five arguments".into()) };
    let client =
        Client { http: reqwest::Client::new(), url: url.clone(), user: user.clone(), password: password.clone() };
    let (at_once, kept): (Option<usize>, usize) = (how.parse().ok(), kept.parse()?);
    let mut last = String::new();
    loop {
        let page: Catalogue = client.get(&format!("/acr/v1/_catalog?n=100&last={}", escaped(&last))).await?;
        let names = page.repositories.unwrap_or_default();
        for name in &names {
            client.repository(name, at_once, kept).await?;
        }
        match names.last() {
            Some(name) if names.len() == 100 => last.clone_from(name),
            _ => return Ok(()),
        }
    }
}

impl Client {
    async fn repository(&self, name: &str, at_once: Option<usize>, kept: usize) -> Result<()> {
        let (mut last, mut seen) = (String::new(), 0);
        loop {
            let path = format!("/acr/v1/{name}/_tags?n=100&orderby=timedesc&last={}", escaped(&last));
            let tags = self.get::<Tags>(&path).await?.tags.unwrap_or_default();
            let going = tags.iter().skip(kept.saturating_sub(seen));
            if let Some(at_once) = at_once {
                let deletions = going.map(|tag| self.delete(format!("/acr/v1/{name}/_tags/{}", tag.name)));
                stream::iter(deletions).buffer_unordered(at_once).try_collect::<()>().await?;
            }
            seen += tags.len();
            match tags.last() {
                Some(tag) if tags.len() == 100 => last.clone_from(&tag.name),
                _ => break,
            }
        }
        let mut last = String::new();
        loop {
            let path = format!("/acr/v1/{name}/_manifests?n=100&last={}", escaped(&last));
            let manifests = self.get::<Manifests>(&path).await?.manifests.unwrap_or_default();
            match manifests.last() {
                Some(manifest) if manifests.len() == 100 => last.clone_from(&manifest.digest),
                _ => return Ok(()),
            }
        }
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        let request = self.http.get(format!("{}{path}", self.url)).basic_auth(&self.user, Some(&self.password));
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn delete(&self, path: String) -> Result<()> {
        let request = self.http.delete(format!("{}{path}", self.url)).basic_auth(&self.user, Some(&self.password));
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
