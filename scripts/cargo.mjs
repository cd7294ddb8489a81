// Runs cargo with the protobuf compiler that etcd-client needs at build time, so that nobody has to install one:
//   node scripts/cargo.mjs test --no-default-features
// Effect: cargo's own exit code and output. PROTOC in the environment wins over the bundled compiler.
import { spawnSync, execFileSync } from "node:child_process"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { realpathSync } from "node:fs"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The environment in which cargo can build every dependency. */
export function cargoEnvironment () {
    if (process.env.PROTOC)
        return process.env
    let out
    try {
        out = execFileSync("cargo", [ "run", "--quiet", "--package", "protoc-path" ], { cwd: root, encoding: "utf8", stdio: [ "ignore", "pipe", "inherit" ] })
    }
    catch (error) {
        if (error.code === "ENOENT")
            throw new Error("ipc-mutex: cargo was not found; building from source needs Rust 1.88 or newer, see README.md, \"Build from source\"")
        throw error
    }
    const [ protoc, include ] = out.trim().split(/\r?\n/)
    return { ...process.env, PROTOC: protoc, PROTOC_INCLUDE: include }
}

export function cargo (args, options = {}) {
    const result = spawnSync("cargo", args, { cwd: root, stdio: "inherit", env: cargoEnvironment(), ...options })
    if (result.error)
        throw result.error
    return result.status ?? 1
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
    process.exitCode = cargo(process.argv.slice(2))
