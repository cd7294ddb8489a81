// A copy of the project in which some text is changed: how faults are put back on purpose.
import { cpSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { root } from "./cargo.mjs"

const { platformId } = createRequire(import.meta.url)("../lib/platform.js")
const JAVASCRIPT = [ "lib", "__test__", "scripts", "index.js", "index.mjs", "package.json" ]
const RUST = [ "src", "tests", "benches", "build.rs", "Cargo.toml", "Cargo.lock" ]

/** A copy of what the tests need, with its own JavaScript and the addon that is built here; or with the source of the addon instead. */
export function copy ({ rust = false } = {}) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-mutants-"))
    for (const name of rust ? [ ...JAVASCRIPT, ...RUST ] : JAVASCRIPT)
        cpSync(join(root, name), join(folder, name), { recursive: true })
    for (const name of rust ? [ "node_modules" ] : [ `ipc-mutex.${platformId()}.node`, "node_modules" ])
        symlinkSync(join(root, name), join(folder, name))
    return folder
}

/**
 * Changes text in one file of a copy. Fails if the text is not there any more.
 * @param {string[][]} changes each: what goes, what comes
 * @returns {() => void} puts the file back
 */
export function patch (folder, file, changes) {
    const path = join(folder, file), original = readFileSync(path, "utf8")
    let text = original
    for (const [ old, changed ] of changes) {
        if (!text.includes(old))
            throw new Error(`${file} has no ${JSON.stringify(old)} any more`)
        text = text.replace(old, () => changed)
    }
    writeFileSync(path, text)
    return () => writeFileSync(path, original)
}
