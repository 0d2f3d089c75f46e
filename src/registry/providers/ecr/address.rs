//! Addresses of Amazon ECR: the host of image references, and that of the API.

use url::Url;

use crate::registry::{RegistryError, RegistryErrorKind, RegistrySettings, is_loopback};

/// The account and the region of a private registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistryPlace {
    /// The id of the account, twelve digits.
    pub(super) account: String,
    pub(super) region: String,
    is_fips: bool,
    partition: Partition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partition {
    /// `amazonaws.com`.
    Public,
    /// `amazonaws.com.cn`.
    China,
    /// `on.aws` in image references and `api.aws` for the API: reachable by IPv6 as well.
    DualStack,
}

impl RegistryPlace {
    /// Reads the host of image references, such as `123456789012.dkr.ecr.eu-central-1.amazonaws.com`.
    pub(super) fn parse(host: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        let (account, rest) = host.split_once('.')?;
        let (rest, partition) = [
            (".amazonaws.com.cn", Partition::China),
            (".amazonaws.com", Partition::Public),
            (".on.aws", Partition::DualStack),
        ]
        .into_iter()
        .find_map(|(domain, partition)| Some((rest.strip_suffix(domain)?, partition)))?;
        let (region, is_fips) =
            [("dkr.ecr-fips.", true), ("dkr-ecr-fips.", true), ("dkr.ecr.", false), ("dkr-ecr.", false)]
                .into_iter()
                .find_map(|(service, is_fips)| Some((rest.strip_prefix(service)?, is_fips)))?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_region = !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (is_account && is_region).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            is_fips,
            partition,
        })
    }

    /// Returns the place of a registry by its endpoint, or by the first of its aliases that tells it: an endpoint on this
    /// machine or in a private network does not.
    pub(super) fn of(endpoint: &Url, aliases: &[String]) -> Option<Self> {
        let aliases = aliases.iter().map(String::as_str);
        endpoint.host_str().into_iter().chain(aliases).find_map(Self::parse)
    }

    /// Returns the address of the API.
    fn api(&self) -> String {
        let Self { region, .. } = self;
        let fips = if self.is_fips { "-fips" } else { "" };
        match self.partition {
            Partition::Public if self.is_fips => format!("https://ecr-fips.{region}.amazonaws.com"),
            Partition::Public => format!("https://api.ecr.{region}.amazonaws.com"),
            Partition::China => format!("https://api.ecr.{region}.amazonaws.com.cn"),
            Partition::DualStack => format!("https://ecr{fips}.{region}.api.aws"),
        }
    }

    /// Returns the address of the token service in the same region.
    pub(super) fn token_service(&self) -> Url {
        let Self { region, .. } = self;
        let fips = if self.is_fips { "-fips" } else { "" };
        let domain = if self.partition == Partition::China { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://sts{fips}.{region}.{domain}").parse().expect("a region has only letters, digits and hyphens")
    }
}

/// Returns the place of a registry and the address of its API: that of its region, unless the endpoint is not Amazon's
/// host for images. Then the endpoint is the API itself, such as an endpoint of a private network.
pub(super) fn locate(settings: &RegistrySettings) -> Result<(RegistryPlace, Url), RegistryError> {
    let endpoint = &settings.endpoint;
    let Some(place) = RegistryPlace::of(endpoint, &settings.aliases) else {
        let message = format!("registry `{}`: its endpoint tells neither account nor region", settings.name);
        return Err(RegistryError::new(RegistryErrorKind::InvalidSettings, message).with_help(ENDPOINT_HELP));
    };
    let named = endpoint.host_str().and_then(RegistryPlace::parse).is_some() && !is_loopback(endpoint);
    let api = if named { place.api().parse() } else { Ok(endpoint.clone()) };
    let api = api.map_err(|error| {
        let message = format!("registry `{}`: the address of its API is not valid", settings.name);
        RegistryError::new(RegistryErrorKind::InvalidSettings, message).caused_by(crate::domain::Cause::foreign(error))
    })?;
    Ok((place, api))
}

/// What to write as endpoint.
pub(super) const ENDPOINT_HELP: &str = "write endpoint = \"https://ACCOUNT.dkr.ecr.REGION.amazonaws.com\"; for an endpoint of your own, name that host in `aliases`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_account_region_and_api() {
        let account = "123456789012";
        for (rest, region, api) in [
            ("dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", "https://api.ecr.eu-central-1.amazonaws.com"),
            ("dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", "https://ecr-fips.us-east-1.amazonaws.com"),
            ("dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", "https://api.ecr.cn-north-1.amazonaws.com.cn"),
            ("dkr-ecr.eu-west-3.on.aws", "eu-west-3", "https://ecr.eu-west-3.api.aws"),
            ("dkr-ecr-fips.us-west-2.on.aws", "us-west-2", "https://ecr-fips.us-west-2.api.aws"),
        ] {
            let place = RegistryPlace::parse(&format!("{account}.{rest}")).unwrap();
            assert_eq!((&*place.account, &*place.region, &*place.api()), (account, region, api));
        }
        for host in [
            "dkr.ecr.eu-central-1.amazonaws.com",
            "12345.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
            "public.ecr.aws",
            "127.0.0.1",
        ] {
            assert_eq!(RegistryPlace::parse(host), None, "{host}");
        }
    }
}
