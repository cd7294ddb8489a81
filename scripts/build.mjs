// Builds the addon and puts it where lib/native.js looks for it:
//   node scripts/build.mjs [--release | --dev] [--target <triple>] [--zig] [--if-needed]
// --release (default) optimises across all crates and takes minutes; --dev takes seconds once the dependencies are built.
// --target is a rustc target from scripts/platforms.mjs, by default this machine's. --zig builds a Linux
// target with cargo-zigbuild; with glibc, against version 2.17, so that the binary runs on older systems than this one.
// --if-needed does nothing when the binary that is there is newer than every source.
// A release binary is also put into its platform package under npm/.
import { spawnSync } from "node:child_process"
import { createRequire } from "node:module"
import { copyFileSync, existsSync, readdirSync, renameSync, statSync, utimesSync } from "node:fs"
import { join, relative } from "node:path"
import { parseArgs } from "node:util"
import { cargoEnvironment, root } from "./cargo.mjs"
import { binaryName, packageFolder, platforms } from "./platforms.mjs"

const { platformId } = createRequire(import.meta.url)("../lib/platform.js")

const { values: options } = parseArgs({
    options: {
        release: { type: "boolean" },
        dev: { type: "boolean" },
        target: { type: "string" },
        zig: { type: "boolean" },
        "if-needed": { type: "boolean" }
    }
})

const OLDEST_GLIBC = "2.17"
const started = new Date()

const platform = options.target ? platforms.find(({ target }) => target === options.target) : undefined
if (options.target && !platform)
    fail(`unknown target ${options.target}; known are ${platforms.map(({ target }) => target).join(", ")}`)
if (options.zig && platform?.os !== "linux")
    fail("--zig needs --target with a Linux target")
const id = platform?.id ?? platformId()
const destination = join(root, binaryName(id))

if (options["if-needed"] && isFresh())
    console.log(`${relative(process.cwd(), destination)} is newer than its sources`)
else
    build()

function build () {
    const args = [ options.zig ? "zigbuild" : "build", "--lib", "--package", "ipc-mutex", "--message-format", "json-render-diagnostics" ]
    if (!options.dev)
        args.push("--release")
    if (options.target)
        args.push("--target", targetArgument())
    const env = { ...cargoEnvironment() }
    // A library that is loaded at run time cannot bring its own libc, which is rustc's default for musl.
    if (options.target?.endsWith("-musl"))
        env.RUSTFLAGS = `${env.RUSTFLAGS ?? ""} -C target-feature=-crt-static`.trim()
    const result = spawnSync("cargo", args, { cwd: root, env, stdio: [ "ignore", "pipe", "inherit" ], encoding: "utf8", maxBuffer: 1 << 28 })
    if (result.error)
        fail(result.error.message)
    if (result.status !== 0)
        process.exit(result.status ?? 1)
    place(libraryIn(result.stdout), destination)
    console.log(`built ${relative(process.cwd(), destination)}`)
    if (!options.dev && existsSync(packageFolder(id))) {
        const packaged = join(packageFolder(id), binaryName(id))
        place(destination, packaged)
        console.log(`   and ${relative(process.cwd(), packaged)}`)
    }
}

function targetArgument () {
    return options.zig && platform.libc === "glibc" ? `${options.target}.${OLDEST_GLIBC}` : options.target
}

/** The dynamic library among the files that cargo says it made. */
function libraryIn (messages) {
    const artifacts = messages.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line))
        .filter((message) => message.reason === "compiler-artifact" && message.target.name === "ipc_mutex")
    const library = artifacts.flatMap((message) => message.filenames).find((file) => /\.(so|dylib|dll)$/.test(file))
    return library ?? fail("cargo made no dynamic library")
}

/** Replaces `to` as a whole: a process that has the old one loaded keeps it, none ever sees half a file. */
function place (from, to) {
    const temporary = `${to}.${process.pid}.tmp`
    copyFileSync(from, temporary)
    // A source that was changed during the build is newer than what was built.
    utimesSync(temporary, started, started)
    renameSync(temporary, to)
}

function isFresh () {
    if (!existsSync(destination))
        return false
    const sources = [ "Cargo.toml", "Cargo.lock", "build.rs" ].map((file) => join(root, file))
    const folders = [ join(root, "src") ]
    for (let folder = folders.pop(); folder; folder = folders.pop()) {
        sources.push(folder)
        for (const entry of readdirSync(folder, { withFileTypes: true }))
            (entry.isDirectory() ? folders : sources).push(join(folder, entry.name))
    }
    const built = statSync(destination).mtimeMs
    return sources.every((source) => statSync(source).mtimeMs < built)
}

function fail (message) {
    console.error(`build: ${message}`)
    process.exit(1)
}
