// The licences of everything that is linked into the addon, for the packages that carry it:
//   node scripts/notices.mjs [--target <triple>] [file]     writes the notices, by default to the standard output
//   node scripts/notices.mjs --check                        fails if a crate has a licence that is not accepted
// Read from what cargo has unpacked, so that nobody keeps a list.
import { execFileSync } from "node:child_process"
import { readFileSync, readdirSync, realpathSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { root } from "./cargo.mjs"

/** Licences that allow a binary under MIT when their notices go with it. Of alternatives, one of these is enough. */
const ACCEPTED = new Set([ "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "CDLA-Permissive-2.0", "BSL-1.0",
    "0BSD", "Unlicense" ])
const LICENCE_FILE = /^(licen[sc]e|copying|notice|unlicense)/i

/** The crates that are linked into the addon, without those that only build or test it. */
function crates (target) {
    const filter = target === undefined ? [] : [ "--filter-platform", target ]
    const output = execFileSync("cargo", [ "metadata", "--format-version", "1", "--locked", ...filter ],
        { cwd: root, encoding: "utf8", maxBuffer: 1 << 28, stdio: [ "ignore", "pipe", "ignore" ] })
    const { packages, resolve } = JSON.parse(output)
    const nodes = new Map(resolve.nodes.map((node) => [ node.id, node ]))
    const found = new Set()
    const visit = (id) => {
        if (found.has(id))
            return
        found.add(id)
        for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps)
            if (kinds.some(({ kind }) => kind === null))
                visit(pkg)
    }
    visit(packages.find(({ name, source }) => name === "ipc-mutex" && source === null).id)
    return packages.filter(({ id, source }) => found.has(id) && source !== null).sort((a, b) => a.name < b.name ? -1 : 1)
}

/** Whether a licence expression can be satisfied by accepted licences: all parts of an AND, one part of an OR. */
export function isAccepted (expression) {
    const text = expression.replaceAll("/", " OR ").replace(/ WITH [\w.-]+/g, "")
    let rest = text
    for (let inner = /\(([^()]*)\)/.exec(rest); inner !== null; inner = /\(([^()]*)\)/.exec(rest))
        rest = rest.replace(inner[0], isAccepted(inner[1]) ? "MIT" : "refused")
    return rest.split(" OR ").some((each) => each.split(" AND ").every((name) => ACCEPTED.has(name.trim())))
}

/** Crates whose licence is missing or not accepted, one sentence each. */
export function refused (target) {
    return crates(target).filter(({ license }) => !isAccepted(license ?? "none"))
        .map(({ name, version, license }) => `${name} ${version} has the licence ${license}`)
}

/** The notices as text. */
export function notices (target) {
    const texts = new Map()
    const lines = []
    for (const { name, version, license, authors, manifest_path: manifest } of crates(target)) {
        const folder = dirname(manifest)
        const files = readdirSync(folder).filter((file) => LICENCE_FILE.test(file))
        lines.push(`${name} ${version}: ${license}${files.length === 0 && authors.length > 0 ? `, by ${authors.join(", ")}` : ""}`)
        for (const file of files) {
            const text = readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n").trim()
            // The same text is often set differently.
            const key = text.replace(/\s+/g, " ")
            const known = texts.get(key) ?? { text, names: [] }
            known.names.push(`${name} ${version}`)
            texts.set(key, known)
        }
    }
    const parts = [ ...texts.values() ].map(({ text, names }) => `${"-".repeat(80)}\n${names.join(", ")}\n\n${text}\n`)
    return `The native core of ipc-mutex contains these packages.\n\n${lines.join("\n")}\n\n${parts.join("\n")}`
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { target: { type: "string" }, check: { type: "boolean" } } })
    if (values.check) {
        const found = refused(values.target)
        for (const line of found)
            console.error(`${line}, which is not in scripts/notices.mjs`)
        process.exitCode = found.length > 0 ? 1 : 0
    }
    else if (positionals.length > 0)
        writeFileSync(positionals[0], notices(values.target))
    else
        process.stdout.write(notices(values.target))
}
