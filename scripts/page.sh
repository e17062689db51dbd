#!/usr/bin/env bash
# Adds the page to the package in dist/web: its files, its libraries as one module, and the list of files that it needs
# without a network.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=dist/web
WEB=assets/web
say() { printf '== %s\n' "$*" >&2; }

say "bundling the page's libraries"
[ $WEB/node_modules/.package-lock.json -nt $WEB/package-lock.json ] || npm --prefix $WEB ci --ignore-scripts --silent
rm -rf $OUT/page
cp -r $WEB/{index.html,bench.html,manifest.webmanifest,models.json,service-worker.js,icons,page} $OUT/
$WEB/node_modules/.bin/esbuild $WEB/vendor.js --bundle --format=esm --target=es2022 --minify --legal-comments=none \
  --log-level=warning --outfile=$OUT/page/vendor.js
for library in dompurify highlight.js marked temml; do
  printf '%s\n\n' "$library"
  cat $WEB/node_modules/$library/LICENSE*
  printf '\n\n'
done >$OUT/page/vendor-licenses.txt

# The package's other files and the demo model, which the cache of models keeps, are not needed to open the page.
cd $OUT
files=$(ls -- *.js *.html *.wasm *.json *.webmanifest page/*.js page/*.css icons/* | grep -vxE 'package.json|service-worker.js')
list=$(printf '"%s", ' $files)
hash=$(sha256sum $files | sha256sum | cut -c1-16)
sed -i "s|^const FILES = .*|const FILES = [${list%, }];|; s|^const BUILD = .*|const BUILD = \"$hash\";|" service-worker.js
say "the page: $(cat page/*.js page/*.css *.html | gzip -9c | wc -c) bytes when compressed"
