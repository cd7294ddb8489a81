// Everything that must hold before a change is let in: npm test
//   node scripts/test.mjs                       all steps
//   node scripts/test.mjs --only <text>         the steps whose name contains the text; if none does, the node:test
//                                               files whose path contains it. May be repeated.
//   node scripts/test.mjs --list                the names of the steps and files
// A failing step does not stop the others. At the end each failed test stands once more with its reason, and the last
// line counts the tests of all steps: "N passed, N failed".
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { spawn } from "node:child_process"
import { cargoEnvironment, root } from "./cargo.mjs"
import { runFiles } from "./run-files.mjs"

const { values: options } = parseArgs({ options: { only: { type: "string", multiple: true }, list: { type: "boolean" } } })

const node = process.execPath
const tool = (path) => [ node, join(root, "node_modules", path) ]

/** Each step gives what it counted; a step that is one command counts as one test unless its output says better. */
const steps = [
    { name: "servers for the tests", run: () => command(node, "__test__/support/install.mjs") },
    { name: "rust: format", run: () => command("cargo", "fmt", "--all", "--check") },
    { name: "rust: lint", run: () => cargo("clippy", "--workspace", "--all-targets", "--", "-D", "warnings") },
    { name: "rust: lint without addon", run: () => cargo("clippy", "--no-default-features", "--all-targets", "--", "-D", "warnings") },
    { name: "rust: tests", run: () => cargo("test", "--no-default-features", "--no-fail-fast") },
    { name: "rust: every interleaving (loom)", run: () => cargo("test", "--package", "ipc-mutex-loom") },
    { name: "versions and platform packages", run: () => command(node, "scripts/platforms.mjs", "--check") },
    { name: "addon", run: () => command(node, "scripts/build.mjs", "--dev", "--if-needed") },
    { name: "javascript: lint", run: () => command(...tool("eslint/bin/eslint.js"), "--max-warnings", "0", ".") },
    { name: "typescript: typings", run: () => command(...tool("typescript/bin/tsc"), "--project", "__test__/types/tsconfig.json") },
    { name: "javascript: tests", run: () => runFiles(testFiles()) }
]

/** Paths from the top folder of every file below `folder` that ends in `ending`, in order. */
function filesBelow (folder, ending) {
    if (!existsSync(join(root, folder)))
        return []
    return readdirSync(join(root, folder), { withFileTypes: true })
        .flatMap((entry) => {
            const path = `${folder}/${entry.name}`
            return entry.isDirectory() ? filesBelow(path, ending) : path.endsWith(ending) ? [ path ] : []
        })
        .sort()
}

function testFiles () {
    return filesBelow("__test__", ".test.mjs")
}

function cargo (...args) {
    return run("cargo", args, cargoEnvironment())
}

function command (program, ...args) {
    return run(program, args, process.env)
}

/** Runs a command with its output passed on. cargo's own counts are read from the output. */
function run (program, args, env) {
    return new Promise((resolve) => {
        const child = spawn(program, args, { cwd: root, env, stdio: [ "ignore", "pipe", "inherit" ] })
        let output = ""
        child.stdout.on("data", (chunk) => {
            output += chunk
            process.stdout.write(chunk)
        })
        child.on("error", (error) => {
            console.error(error.message)
            resolve({ passed: 0, failed: 1, failures: [ { name: program, reason: error.message } ] })
        })
        child.on("close", (code) => resolve(counted(output, code === 0)))
    })
}

function counted (output, ok) {
    const sum = { passed: 0, failed: 0, failures: [ ...output.matchAll(/^test (.*) \.\.\. FAILED$/gm) ].map(([ , name ]) => ({ name, reason: "see above" })) }
    const results = [ ...output.matchAll(/^test result: .*? (\d+) passed; (\d+) failed;/gm) ]
    for (const [ , passed, failed ] of results) {
        sum.passed += Number(passed)
        sum.failed += Number(failed)
    }
    if (results.length === 0)
        sum.passed = ok ? 1 : 0
    if (!ok && sum.failed === 0)
        sum.failed = 1
    return sum
}

/** What `--only` asks for. */
function chosen () {
    if (!options.only)
        return steps
    const found = options.only.flatMap((text) => {
        const named = steps.filter(({ name }) => name.includes(text))
        if (named.length > 0)
            return named
        const files = testFiles().filter((path) => path.includes(text))
        if (files.length === 0) {
            console.error(`neither a step nor a test file is called ${text}; see --list`)
            process.exit(1)
        }
        return [ { name: `javascript: ${text}`, run: () => runFiles(files) } ]
    })
    return [ ...new Set(found) ]
}

/** The first lines of a text that may be long, such as the output of a program. */
function indented (text) {
    const lines = text.trimEnd().split("\n")
    const shown = lines.length > 12 ? [ ...lines.slice(0, 12), `(${lines.length - 12} more lines above)` ] : lines
    return shown.map((line) => `    ${line.slice(0, 300)}`).join("\n")
}

const clock = (ms) => `${Math.floor(ms / 60000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`

async function main () {
    const started = Date.now()
    const rows = []
    for (const { name, run: runStep } of chosen()) {
        console.log(`\n=== ${name} ===`)
        const begun = Date.now()
        const counts = await runStep()
        rows.push({ name, ...counts, ms: Date.now() - begun })
    }
    console.log(`\n=== summary after ${clock(Date.now() - started)} ===`)
    for (const { name, passed, failed, skipped, ms } of rows) {
        const mark = failed > 0 ? "FAILED" : "ok"
        console.log(`${mark.padEnd(7)}${clock(ms).padStart(6)}  ${name}: ${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ""}`)
    }
    for (const { name, reason } of rows.flatMap(({ failures }) => failures ?? []))
        console.log(`\nfailed: ${name}\n${indented(reason)}`)
    const sum = (key) => rows.reduce((total, row) => total + row[key], 0)
    console.log(`${sum("passed")} passed, ${sum("failed")} failed`)
    process.exitCode = sum("failed") > 0 || sum("passed") === 0 ? 1 : 0
}

if (options.list)
    console.log([ ...steps.map(({ name }) => name), ...testFiles() ].join("\n"))
else
    await main()
