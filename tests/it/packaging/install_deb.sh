#!/usr/bin/env bash
# Installs, upgrades and purges a package on a copy of this system: a file system laid over it, in a mount namespace of
# its own, so that the system stays as it is. Prints what it saw; the test asserts. Arguments: PACKAGE FOLDER
set -euo pipefail
package=$1 folder=$2

mount -t tmpfs tmpfs "$folder"
mkdir "$folder"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
for place in proc dev sys; do mount --rbind "/$place" "$folder/root/$place"; done
mount -t tmpfs tmpfs "$folder/root/run"
cp "$package" "$folder/root/tagwarden.deb"

inside() { chroot "$folder/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
install_package() { inside dpkg --force-unsafe-io --install /tagwarden.deb >&2; }

install_package
echo "version: $(inside tagwarden --version)"
echo "user: $(inside id -un tagwarden), home $(inside getent passwd tagwarden | cut -d : -f 6)"
for path in /etc/tagwarden /etc/tagwarden/policies /etc/tagwarden/credentials; do
    echo "mode: $(inside stat -c '%a %U:%G %n' "$path")"
done
inside systemd-analyze verify --man=no tagwarden.service tagwarden-run.service tagwarden-run.timer >&2
echo "units: fine"
echo "started: $(inside find /etc/systemd/system -name 'tagwarden*' | wc -l) units enabled"
for page in tagwarden tagwarden-plan; do
    echo "manual: $(inside sh -c "gunzip -c /usr/share/man/man1/$page.1.gz" | grep -m 1 "^\.TH" | cut -d " " -f 2)"
done
echo "completion: $(inside bash -c '. /usr/share/bash-completion/completions/tagwarden && complete -p tagwarden' | grep -o -- '-F [a-z_]*')"

# The first settings, as README.Debian says: for the units' user, with the state where the sandbox lets them write.
inside tagwarden init --folder /etc/tagwarden/ --kind distribution registry.contoso.example >&2
echo "settings: $(inside grep '^state' /etc/tagwarden/tagwarden.toml | cut -d ' ' -f 3)"
inside setpriv --reuid tagwarden --regid tagwarden --init-groups tagwarden check >&2
echo "state made by root: $(inside find /etc/tagwarden /var/lib/tagwarden -name '*.db' 2>/dev/null | wc -l)"

# What somebody wrote there, and the way back, outlive the package.
inside install -d -o tagwarden -g tagwarden -m 0700 /var/lib/tagwarden
inside touch /var/lib/tagwarden/tagwarden.db
install_package
inside dpkg --purge tagwarden >&2
for path in /etc/tagwarden/tagwarden.toml /var/lib/tagwarden/tagwarden.db /usr/bin/tagwarden; do
    if inside test -e "$path"; then echo "after the purge: $path stays"; else echo "after the purge: $path is gone"; fi
done
