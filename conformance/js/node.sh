# Node.js and its packages, for the suites that need them: sourced by `run` and by `../run`.
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

# The oldest Node.js that the SDK takes; an older one gives way to what `build/setup` installed.
node_major_min=22

node_major() {
  "$1" --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p'
}

use_node() {
  local own="$repository/.build/node/node_modules/.bin"
  [[ "$(node_major node || true)" -ge $node_major_min ]] || export PATH="$own:$PATH"
  [[ "$(node_major node || true)" -ge $node_major_min ]] || {
    echo "conformance: the suite needs Node.js $node_major_min or newer: run build/setup first" >&2
    exit 1
  }
}

# node_modules of a folder from its lock file, made anew when the lock or Node.js changes.
node_clients() {
  local folder="$1" stamp
  stamp="$(node --version) $(sha256sum <"$folder/package-lock.json")"
  [[ "$(cat "$folder/node_modules/.stamp" 2>/dev/null)" != "$stamp" ]] || return 0
  echo "conformance: installing the JavaScript clients" >&2
  (cd "$folder" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2)
  echo "$stamp" >"$folder/node_modules/.stamp"
}
