// Packs the main package and this machine's platform package:
//   node scripts/pack.mjs [folder]     default: the top folder
//   node scripts/pack.mjs --complete <platform>   puts the licences beside a binary that is in its package folder already
// Both tarballs together install without a registry: npm install ./ipc-mutex-*.tgz
import { execFileSync } from "node:child_process"
import { createRequire } from "node:module"
import { copyFileSync, existsSync, realpathSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { root } from "./cargo.mjs"
import { notices } from "./notices.mjs"
import { LICENCES, binaryName, packageFolder, platforms } from "./platforms.mjs"

const { platformId } = createRequire(import.meta.url)("../lib/platform.js")

/** Packs both into `folder`, with the binary that is built now. Returns the paths of the two tarballs. */
export function pack (folder) {
    const id = platformId()
    const binary = join(root, binaryName(id))
    if (!existsSync(binary))
        throw new Error(`${binary} is not built; run: npm run build`)
    if (!existsSync(packageFolder(id)))
        throw new Error(`there is no platform package for ${id}, only for those in npm/`)
    copyFileSync(binary, join(packageFolder(id), binaryName(id)))
    complete(id)
    return [ root, packageFolder(id) ].map((source) => {
        const [ { filename } ] = JSON.parse(npm([ "pack", "--json", "--pack-destination", folder ], source))
        return join(folder, filename)
    })
}

/** Puts the licences into the package of platform `id`. */
function complete (id) {
    const [ own, others ] = LICENCES.map((name) => join(packageFolder(id), name))
    copyFileSync(join(root, "LICENSE"), own)
    writeFileSync(others, notices(platforms.find((each) => each.id === id).target))
}

/** Runs npm in `cwd` and gives what it printed. */
export function npm (args, cwd) {
    return execFileSync("npm", args, { cwd, encoding: "utf8", stdio: [ "ignore", "pipe", "inherit" ], shell: process.platform === "win32" })
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
    if (process.argv[2] === "--complete")
        complete(process.argv[3])
    else
        for (const tarball of pack(resolve(process.argv[2] ?? root)))
            console.log(tarball)
