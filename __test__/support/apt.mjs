// Debian's package tools as the tests use them: to install servers, and to unpack one from an older release into a cache.
import { execFile } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { homedir, tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { alive } from "./processes.mjs"
import { waitFor } from "./waiting.mjs"

const run = promisify(execFile)
const KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
const POLICY = "/usr/sbin/policy-rc.d"
/** How apt-get treats a network that fails for a moment. */
const NETWORK = [ "-o", "Acquire::Retries=5" ]

/** Where unpacked programs are kept: IPC_MUTEX_TEST_CACHE, or a folder in the user's cache. */
export function cacheFolder () {
    return process.env.IPC_MUTEX_TEST_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "ipc-mutex-test")
}

/**
 * Installs the packages that `wanted()` names, once no other test process is doing so. Needs root.
 * The system does not start what was installed (PostgreSQL's package makes an empty cluster of its own, which
 * stays unused).
 */
export async function install (wanted) {
    await alone(async () => {
        const names = wanted()
        if (names.length === 0)
            return // another process has done it
        const options = [ "--yes", "--no-install-recommends", ...NETWORK, "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0" ]
        const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
        const attempt = () => run("apt-get", [ "install", ...options, ...names ], { env, maxBuffer: 1 << 26 })
        // the one place where Debian asks whether a service may be started; an administrator's own answer stays
        const forbid = !existsSync(POLICY)
        if (forbid)
            writeFileSync(POLICY, "#!/bin/sh\n# temporary, of the tests of ipc-mutex\nexit 101\n", { mode: 0o755 })
        try {
            await attempt().catch(async () => {
                // lists that are missing or out of date are the usual reason; one broken source must not matter
                await run("apt-get", [ "update", ...NETWORK, "-o", "DPkg::Lock::Timeout=300" ], { env, maxBuffer: 1 << 26 }).catch(() => {})
                await attempt()
            })
        }
        finally {
            if (forbid)
                rmSync(POLICY, { force: true })
        }
    })
}

/**
 * Puts Debian's last Consul (1.8.7, of the release "bullseye") into the cache folder, unless `there()` says that it is.
 * The system's package sources, lists and state are only read; what is downloaded is verified with Debian's keys. Needs no root.
 */
export async function unpackConsul (there) {
    await alone(async () => {
        if (there())
            return
        const folder = mkdtempSync(join(tmpdir(), "imt-apt-"))
        try {
            const options = privateApt(folder, await mirror(), "bullseye")
            const settings = { cwd: folder, maxBuffer: 1 << 26 }
            await run("apt-get", [ ...options, "update" ], settings)
            await run("apt-get", [ ...options, "download", "consul" ], settings)
            const { stdout } = await run("sh", [ "-c", "ls consul_*.deb" ], settings)
            await run("dpkg-deb", [ "-x", stdout.trim(), "unpacked" ], settings)
            // named only when it is whole, as another process may look for it at any time
            const copy = join(cacheFolder(), `consul.${process.pid}`)
            copyFileSync(join(folder, "unpacked/usr/bin/consul"), copy)
            renameSync(copy, join(cacheFolder(), "consul"))
        }
        finally {
            rmSync(folder, { recursive: true, force: true })
        }
    })
}

/** The options that make apt-get use one release only, with lists, cache and state in `folder`. */
function privateApt (folder, uri, release) {
    for (const name of [ "lists/partial", "cache/archives/partial" ])
        mkdirSync(join(folder, name), { recursive: true })
    const sources = join(folder, "sources.list")
    writeFileSync(sources, `deb [signed-by=${KEYS}] ${uri} ${release} main\n`)
    writeFileSync(join(folder, "status"), "")
    const values = {
        "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": join(folder, "lists"),
        "Dir::State::status": join(folder, "status"), "Dir::Cache": join(folder, "cache"),
        // root's own downloads may not be readable for apt's user, in a folder that only root can enter
        ...(process.getuid() === 0 ? { "APT::Sandbox::User": "root" } : {}),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false", "Acquire::Languages": "none"
    }
    return [ ...NETWORK, ...Object.entries(values).flatMap(([ name, value ]) => [ "-o", `${name}=${value}` ]) ]
}

/** The address of the Debian archive that this system is configured to use. */
async function mirror () {
    const codename = /^VERSION_CODENAME=(\w+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1]
    const { stdout } = await run("apt-get", [ "--print-uris", "update" ], { maxBuffer: 1 << 26 })
    // others may have a release of the same name, so the usual end of the address comes first
    const found = [ ...stdout.matchAll(/^'(\S+)\/dists\/(\w+)\/(?:In)?Release'/gm) ].filter(([ , , release ]) => release === codename)
        .map(([ , uri ]) => uri).sort((a, b) => b.endsWith("/debian") - a.endsWith("/debian"))
    if (found.length === 0)
        throw new Error("this system has no Debian archive among its package sources")
    return found[0]
}

/** Runs `action` while no other test process is in here. */
async function alone (action) {
    const folder = cacheFolder()
    mkdirSync(folder, { recursive: true })
    const lock = join(folder, "installing")
    await waitFor(() => take(lock), { timeout: 600_000, every: 200, what: `${lock}, which another test process holds,` })
    try {
        return await action()
    }
    finally {
        rmSync(lock, { force: true })
    }
}

function take (lock) {
    try {
        writeFileSync(lock, String(process.pid), { flag: "wx" })
        return true
    }
    catch (error) {
        if (error.code !== "EEXIST")
            throw error
    }
    const owner = Number(readFileSync(lock, "utf8"))
    if (owner > 0 && !alive(owner))
        rmSync(lock, { force: true })
    return false
}
