// Installs the packages that the benchmarks compare with, in the folder of the benchmarks.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { join } from "node:path"

const folder = fileURLToPath(new URL("../", import.meta.url))

/** Does nothing when they are there in the right versions. */
export function installPeers () {
    const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
    const isNode24There = process.platform === "linux" && process.arch === "x64"
    const all = isNode24There ? { ...dependencies, ...optionalDependencies } : dependencies
    const there = (name, wanted) => {
        const file = join(folder, "node_modules", name, "package.json")
        return existsSync(file) && JSON.parse(readFileSync(file, "utf8")).version.replace(/^v/, "") === wanted.replace(/^npm:.*@/, "")
    }
    if (Object.entries(all).every(([ name, version ]) => there(name, version)))
        return
    console.log("installing what ipc-mutex is compared with ...")
    const npm = process.platform === "win32" ? "npm.cmd" : "npm"
    const args = [ "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-save", "--package-lock=false", "--ignore-scripts" ]
    const { status, error } = spawnSync(npm, args,
        { cwd: folder, stdio: [ "ignore", "ignore", "inherit" ], shell: process.platform === "win32" })
    if (error || status !== 0)
        throw new Error(`the peers could not be installed: ${error?.message ?? `npm ended with code ${status}`}`)
}
