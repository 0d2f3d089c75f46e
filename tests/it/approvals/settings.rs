//! `[approvals]` as it is written.

use tagwarden::config::SignerKey;

use crate::config::{load, revision};

const REGISTRY: &str = "[registries.contoso]\nkind = \"distribution\"\nendpoint = \"https://contoso.example\"\n";
const APPROVALS: &str = include_str!("../../../docs/change-tickets.md");

#[test]
fn the_settings_of_the_documentation_are_read() {
    let toml = APPROVALS.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let settings = load(&format!("{toml}{REGISTRY}"), &[]);
    let approvals = &settings.approvals;
    assert!(approvals.require_signature);
    let names: Vec<&str> = approvals.signers.iter().map(|signer| signer.name.as_str()).collect();
    assert_eq!(names, ["Ada Lovelace", "Grace Hopper"]);
    assert!(matches!(approvals.signers[0].key, SignerKey::Ssh(_)));
    assert!(matches!(approvals.signers[1].key, SignerKey::Minisign(_)));
    assert!(approvals.folder.as_ref().is_some_and(|folder| folder.ends_with("approved")));
}

#[test]
fn who_approves_is_no_part_of_what_a_plan_rests_on() {
    let toml = APPROVALS.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(revision(&format!("{toml}{REGISTRY}")), revision(REGISTRY));
    assert!(!load(REGISTRY, &[]).approvals.require_signature);
}
