// Shows that the torture catches broken variants of the product, which it makes in copies of the project:
//   npm run torture -- --broken [--only <text>] [--javascript | --addon]
// Prints for each how long the torture ran and what it found; the exit code is 1 if one was not caught. The first variant that is broken in the
// addon builds it, which takes minutes; --javascript leaves those out, --addon the others.
import { spawn, spawnSync } from "node:child_process"
import { appendFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { CHOICE, SWITCH, variants } from "../__test__/torture/broken.mjs"
import { root } from "./cargo.mjs"
import { copy, patch } from "./patched.mjs"

const SEED = 1

/** A copy with all faults of the addon, none of which is on before it is chosen. */
function brokenAddon () {
    const folder = copy({ rust: true })
    for (const { file, changes } of variants.filter(({ rust }) => rust))
        patch(folder, file, changes)
    appendFileSync(join(folder, CHOICE[0]), CHOICE[1])
    const env = { ...process.env, CARGO_TARGET_DIR: join(root, "target") }
    const { status } = spawnSync(process.execPath, [ "scripts/build.mjs", "--dev" ], { cwd: folder, stdio: "inherit", env })
    if (status !== 0)
        throw new Error("the broken addon could not be built")
    return folder
}

/** @returns {Promise<string>} what the torture of the copy printed */
function run (folder, { name, target, only, minutes }) {
    const args = [ "scripts/torture.mjs", target, "--seed", String(SEED), "--minutes", String(minutes), "--fault", only, "--quiet" ]
    const child = spawn(process.execPath, args, { cwd: folder, env: { ...process.env, [SWITCH]: name } })
    let output = ""
    for (const stream of [ child.stdout, child.stderr ])
        stream.on("data", (chunk) => { output += chunk })
    return new Promise((resolve) => child.on("close", () => resolve(output)))
}

/** @returns {Promise<number>} how many variants were not caught */
export async function catchBroken ({ only = "", javascript = false, addon = false }) {
    const chosen = variants.filter(({ name, rust }) => name.includes(only) && !(rust ? javascript : addon))
    const folders = new Map()
    let survivors = 0
    try {
        for (const variant of chosen) {
            if (!folders.has(variant.rust))
                folders.set(variant.rust, variant.rust ? brokenAddon() : copy())
            const folder = folders.get(variant.rust)
            const restore = variant.rust ? () => {} : patch(folder, variant.file, variant.changes)
            const started = performance.now()
            const output = await run(folder, variant)
            restore()
            const seconds = Math.round((performance.now() - started) / 1000)
            const found = output.split("\n").find((line) => variant.says.test(line))
            survivors += found === undefined ? 1 : 0
            console.log(`${found === undefined ? "SURVIVES" : "caught  "}  ${variant.name} (${variant.target}, ${seconds} s)`)
            console.log(`            ${found?.trim() ?? output.slice(-2000)}`)
            for (const [ , kept ] of output.matchAll(/histories in (\S+)/g))
                rmSync(kept, { recursive: true, force: true })
        }
    }
    finally {
        for (const folder of folders.values())
            rmSync(folder, { recursive: true })
    }
    console.log(survivors === 0 ? "every broken variant is caught" : `${survivors} not caught`)
    return survivors
}
