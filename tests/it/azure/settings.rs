//! What the settings say of Azure.

use std::path::Path;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tagwarden::azure::{Cloud, Identity};
use tagwarden::registry::{Auth, RateLimits};

use crate::config::{load, revision};

const ACR: &str = "[registries.contoso]\nkind = \"acr\"\nendpoint = \"https://contoso.azurecr.io\"\n";
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CLIENT: &str = "22222222-2222-2222-2222-222222222222";
const SUBSCRIPTION: &str = "33333333-3333-3333-3333-333333333333";

fn identity(auth: &str, environment: &[(&str, &str)]) -> Identity {
    let settings = load(&format!("{ACR}auth = {auth}\n"), environment);
    assert!(!format!("{settings:?}").contains("hunter2"));
    match settings.registries.into_iter().next().unwrap().auth {
        Auth::Entra(credential) => credential.identity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn little_is_needed() {
    let settings = load(ACR, &[]);
    let [contoso] = settings.registries.as_slice() else { panic!("{settings:?}") };
    assert_eq!((contoso.provider.name(), contoso.concurrency), ("acr", 32));
    assert_eq!(contoso.rate_limits, RateLimits::default());
    assert!(contoso.azure_resource.is_none() && !contoso.accepted.retention);
    assert_eq!(settings.undo_window, Duration::from_hours(7 * 24));
    assert_eq!(load(&format!("undo_window = \"30d\"\n{ACR}"), &[]).undo_window, Duration::from_hours(30 * 24));
}

#[test]
fn every_identity_is_read() {
    assert!(matches!(identity(r#"{ kind = "managed-identity" }"#, &[]), Identity::Managed { client_id: None }));
    let of_user = identity(&format!(r#"{{ kind = "managed-identity", client_id = "{CLIENT}" }}"#), &[]);
    assert!(matches!(of_user, Identity::Managed { client_id: Some(id) } if id == CLIENT));
    assert!(matches!(identity(r#"{ kind = "azure-cli" }"#, &[]), Identity::AzureCli { tenant_id: None }));
    let of_tenant = identity(r#"{ kind = "azure-cli", tenant_id = "Contoso.onmicrosoft.com" }"#, &[]);
    assert!(matches!(of_tenant, Identity::AzureCli { tenant_id: Some(id) } if id == "contoso.onmicrosoft.com"));

    let secret = format!(r#"{{ kind = "client-secret", tenant_id = "{TENANT}", client_id = "{CLIENT}""#);
    let variable = [("TAGWARDEN__REGISTRIES__CONTOSO__AUTH__SECRET", "hunter2")];
    for read in
        [identity(&format!("{secret}, secret_file = \"secret\" }}"), &[]), identity(&format!("{secret} }}"), &variable)]
    {
        let Identity::ClientSecret { tenant_id, client_id, secret } = read else { panic!("{read:?}") };
        assert_eq!((tenant_id.as_str(), client_id.as_str(), secret.expose_secret()), (TENANT, CLIENT, "hunter2"));
    }
}

#[test]
fn a_pods_environment_fills_in_what_is_not_written() {
    let pod = [
        ("AZURE_CLIENT_ID", CLIENT),
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
    ];
    let read = identity(r#"{ kind = "workload-identity" }"#, &pod);
    let Identity::Workload { client_id, tenant_id, token_file } = read else { panic!("{read:?}") };
    assert_eq!((client_id.as_deref(), tenant_id.as_deref()), (Some(CLIENT), Some(TENANT)));
    assert_eq!(token_file.as_deref(), Some(Path::new(pod[2].1)));
    let written = format!(r#"{{ kind = "workload-identity", client_id = "{TENANT}", token_file = "token" }}"#);
    let read = identity(&written, &pod);
    let Identity::Workload { client_id, token_file, .. } = read else { panic!("{read:?}") };
    assert_eq!(client_id.as_deref(), Some(TENANT), "what is written goes first");
    assert!(token_file.is_some_and(|file| file.is_absolute() && file.ends_with("token")), "relative to the settings");
    // Outside of a pod the settings can still be checked.
    let read = identity(r#"{ kind = "workload-identity" }"#, &[]);
    assert!(matches!(read, Identity::Workload { client_id: None, tenant_id: None, token_file: None }));
}

#[test]
fn a_registry_is_asked_about_as_itself_or_as_azure_says() {
    let place = format!("subscription = \"{SUBSCRIPTION}\"\nresource_group = \"rg-Registries_(1)\"\n");
    let own = load(&format!("{ACR}auth = {{ kind = \"azure-cli\" }}\n{place}[azure]\ncloud = \"china\"\n"), &[]);
    let resource = own.registries[0].azure_resource.as_ref().unwrap();
    assert_eq!((&*resource.subscription, &*resource.resource_group), (SUBSCRIPTION, "rg-Registries_(1)"));
    assert!(matches!(resource.credential.identity, Identity::AzureCli { .. }));
    assert_eq!(resource.credential.environment.cloud, Cloud::China);
    let Auth::Entra(credential) = &own.registries[0].auth else { panic!("{own:?}") };
    assert_eq!(credential.environment, resource.credential.environment);

    let azure = "[azure]\ncloud = \"usgov\"\nca_file = \"ca.pem\"\nresource_manager = \"http://127.0.0.1:1\"\n\
                 authority = \"https://login.example\"\nauth = { kind = \"managed-identity\" }\n";
    let basic = "auth = { kind = \"basic\", username = \"x\", password_file = \"secret\" }\n";
    let settings = load(&format!("{ACR}{basic}{place}{azure}"), &[]);
    let credential = &settings.registries[0].azure_resource.as_ref().unwrap().credential;
    assert!(matches!(credential.identity, Identity::Managed { client_id: None }));
    let surroundings = &credential.environment;
    assert_eq!(surroundings.cloud, Cloud::UsGov);
    assert_eq!(surroundings.resource_manager.as_ref().unwrap().as_str(), "http://127.0.0.1:1/");
    assert_eq!(surroundings.authority.as_ref().unwrap().as_str(), "https://login.example/");
    assert!(surroundings.ca_file.as_ref().unwrap().ends_with("ca.pem"));

    let secret =
        format!("[azure]\nauth = {{ kind = \"client-secret\", tenant_id = \"{TENANT}\", client_id = \"{CLIENT}\" }}\n");
    let settings = load(&format!("{ACR}{basic}{place}{secret}"), &[("TAGWARDEN__AZURE__AUTH__SECRET", "hunter2")]);
    let credential = &settings.registries[0].azure_resource.as_ref().unwrap().credential;
    assert!(
        matches!(&credential.identity, Identity::ClientSecret { secret, .. } if secret.expose_secret() == "hunter2")
    );
}

#[test]
fn rates_and_what_is_accepted() {
    let settings =
        load(&format!("{ACR}rates = {{ read = 5000, delete = 500 }}\naccept = [\"untagged-retention\"]\n"), &[]);
    let contoso = &settings.registries[0];
    assert_eq!(contoso.rate_limits, RateLimits { read: Some(5000), write: None, delete: Some(500) });
    assert!(contoso.accepted.retention);
    let variables = [
        ("TAGWARDEN__REGISTRIES__CONTOSO__RATES__DELETE", "60"),
        ("TAGWARDEN__REGISTRIES__CONTOSO__ACCEPT", "untagged-retention"),
    ];
    let contoso = &load(ACR, &variables).registries[0];
    assert_eq!((contoso.rate_limits.delete, contoso.accepted.retention), (Some(60), true));
}

#[test]
fn bytes_are_estimated_unless_every_manifest_is_to_be_pulled() {
    let exact = |text: &str| load(text, &[]).registries[0].exact_bytes;
    assert!(!exact(ACR) && !exact(&format!("{ACR}bytes = \"estimated\"\n")));
    let settings = load(&format!("{ACR}bytes = \"exact\"\n"), &[]);
    assert!(settings.registries[0].exact_bytes);
    assert_ne!(settings.revision, load(ACR, &[]).revision, "it decides what a bare digest may mean");
}

#[test]
fn a_registry_of_azure_by_another_kind_is_pointed_out() {
    let warnings = |endpoint: &str| {
        let text = format!("[registries.contoso]\nkind = \"distribution\"\nendpoint = \"{endpoint}\"\n");
        let warnings = load(&text, &[]).warnings;
        warnings.iter().filter(|warning| warning.contains("write kind = \"acr\"")).count()
    };
    assert_eq!(warnings("https://contoso.azurecr.io"), 1);
    assert_eq!(warnings("https://contoso.azurecr.cn"), 1);
    assert_eq!(warnings("https://azurecr.io.example"), 0);
}

#[test]
fn loopback_needs_no_encryption() {
    let text = ACR.replace("https://contoso.azurecr.io", "http://127.0.0.1:5000");
    assert_eq!(load(&text, &[]).registries[0].endpoint.as_str(), "http://127.0.0.1:5000/");
}

#[test]
fn what_decides_is_in_the_revision_and_speed_is_not() {
    let full = format!(
        "undo_window = \"7d\"\n{ACR}auth = {{ kind = \"managed-identity\", client_id = \"{CLIENT}\" }}\n\
         subscription = \"{SUBSCRIPTION}\"\nresource_group = \"rg\"\nrates = {{ read = 1 }}\n\
         [azure]\ncloud = \"public\"\nauth = {{ kind = \"azure-cli\", tenant_id = \"{TENANT}\" }}\n"
    );
    let base = revision(&full);
    let change = |from: &str, to: &str| {
        let changed = full.replacen(from, to, 1);
        assert_ne!(changed, full, "{from}");
        revision(&changed)
    };
    for (from, to) in [
        ("\"7d\"", "\"8d\""),
        (CLIENT, TENANT),
        ("managed-identity", "workload-identity"),
        (SUBSCRIPTION, CLIENT),
        ("\"rg\"", "\"rg2\""),
        ("rates =", "accept = [\"untagged-retention\"]\nrates ="),
        ("public", "usgov"),
        ("azure-cli\", tenant_id", "workload-identity\", tenant_id"),
        ("cloud =", "resource_manager = \"https://management.example\"\ncloud ="),
        ("cloud =", "authority = \"https://login.example\"\ncloud ="),
    ] {
        assert_ne!(change(from, to), base, "{from} -> {to}");
    }
    for (from, to) in [
        ("read = 1", "read = 2, delete = 3"),
        ("rates =", "concurrency = 3\nrates ="),
        ("cloud =", "ca_file = \"ca.pem\"\ncloud ="),
    ] {
        assert_eq!(change(from, to), base, "{from} -> {to}");
    }
}
