//! Azure Container Registry from outside: the binary, a registry that speaks it, and imitations of what Azure has around.

use super::Desk;

/// Puts an Azure CLI on the path that gives this token and nothing else.
pub(super) fn az_that_says(desk: &mut Desk, token: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let answer = format!(r#"{{"accessToken":"{token}","expires_on":4102444800,"tokenType":"Bearer"}}"#);
    desk.write("bin/answer.json", &answer);
    let answer = desk.path("bin/answer.json");
    desk.write("bin/az", &format!("#!/bin/sh\necho \"$@\" >> {0}.asked\ncat {0}\n", answer.display()));
    std::fs::set_permissions(desk.path("bin/az"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", desk.path("bin").display());
    desk.set("PATH", &path);
}
