#!/usr/bin/env bash
# Alembic 1.18.0 to 1.20.0: a plugin with the documented entry point breaks the import.
#
# Expected: an entry point of the group "alembic.plugins" that names a module has Alembic
#   call the module's setup(plugin), as the docstring of Plugin.setup_plugin_from_module
#   says of modules that are published in this way.
# Seen: "import alembic" raises TypeError: 'module' object is not iterable, hence every
#   command of Alembic fails where such a plugin is installed.
# Settled: 1.20.1 calls setup(). It warns of a list of modules, which older ones want.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
python="$work/venv/bin/python"

# A plugin as pip installs it, with one module and one entry point.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$site/plugin_of_ours-1.dist-info"
cat >"$site/plugin_of_ours-1.dist-info/METADATA" <<'END'
Metadata-Version: 2.1
Name: plugin-of-ours
Version: 1
END
cat >"$site/plugin_of_ours-1.dist-info/entry_points.txt" <<'END'
[alembic.plugins]
ours = plugin_of_ours
END
cat >"$site/plugin_of_ours.py" <<'END'
def setup(plugin):
    print("setup() is called")
END

status=0
for pair in \
    "1.19.2|TypeError: 'module' object is not iterable" \
    "1.20.1|setup() is called"; do
    version=${pair%%|*}
    "$python" -m pip install --quiet "alembic==$version"
    seen=$("$python" -c "import alembic" 2>&1 | tail -n 1) || true
    echo "alembic $version"
    echo "  expected: setup() is called"
    echo "  seen:     $seen"
    [ "$seen" = "${pair#*|}" ] || { echo "  that has changed"; status=1; }
done
exit "$status"
