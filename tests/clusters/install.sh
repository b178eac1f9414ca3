#!/usr/bin/env bash
# Installs what the tests of clusters need, as root on Debian or Ubuntu; elsewhere says what that is.
set -euo pipefail
packages=(iproute2 mpich munge nftables openmpi-bin slurm-client slurmctld slurmd)
missing=()
for package in "${packages[@]}"; do
  dpkg --status "$package" 2>/dev/null | grep -q '^Status: .* installed' || missing+=("$package")
done
if [[ ${#missing[@]} == 0 ]]; then exit; fi
if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "stochconv_jax: as root, install Debian's packages ${missing[*]}" >&2
  exit 1
fi
apt-get update --quiet=2
# Their services are not to run: the tests start their own.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"
