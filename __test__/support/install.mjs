// Finds the servers that the tests start, and installs what is missing: from Debian's packages, as root. What they install
// is never started by the system. Off by IPC_MUTEX_TEST_INSTALL=never. Folders in IPC_MUTEX_TEST_PATH come before all
// others, so that the tests run against another version of a server.
//
//     node __test__/support/install.mjs [redis postgres etcd consul pgbouncer]
import { accessSync, constants, readdirSync, realpathSync, statSync } from "node:fs"
import { delimiter, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { cacheFolder, install, unpackConsul } from "./apt.mjs"

const self = fileURLToPath(import.meta.url)

/** What there is, the programs it has, and how Debian calls it. */
const SOFTWARE = {
    redis: { packages: [ "redis-server" ], find: findRedis },
    postgres: { packages: [ "postgresql" ], find: findPostgres },
    etcd: { packages: [ "etcd-server", "etcd-client" ], find: () => need({ etcd: inPath("etcd"), etcdctl: inPath("etcdctl") }) },
    consul: { unpack: unpackConsul, find: () => need({ consul: inPath("consul") ?? executable(join(cacheFolder(), "consul")) }) },
    pgbouncer: { packages: [ "pgbouncer" ], find: () => need({ pgbouncer: inPath("pgbouncer") }) }
}

/**
 * Makes sure that the named servers are there.
 *
 * @param {("redis" | "postgres" | "etcd" | "consul" | "pgbouncer")[]} [names] all by default
 * @returns {Promise<{ redis?: string, postgres?: string, initdb?: string, etcd?: string, etcdctl?: string, consul?: string,
 *   pgbouncer?: string }>} the paths of their programs
 * @throws {Error} when one is missing and could not be installed; the message is the command that installs it
 */
export async function ensureServers (names = Object.keys(SOFTWARE)) {
    for (const name of names)
        if (!(name in SOFTWARE))
            throw new Error(`unknown server software "${name}"`)
    const missing = () => names.filter((name) => SOFTWARE[name].find() === undefined)
    if (missing().length > 0) {
        const reason = process.env.IPC_MUTEX_TEST_INSTALL === "never" ? "IPC_MUTEX_TEST_INSTALL=never" : await provide(missing)
        if (missing().length > 0)
            throw new Error(command(missing()), { cause: reason })
    }
    return Object.assign({}, ...names.map((name) => SOFTWARE[name].find()))
}

/** Installs what `missing()` names, as far as this user can; gives the reason of a failure. */
async function provide (missing) {
    if (inPath("apt-get") === undefined)
        return "no apt-get here"
    try {
        const unpacked = missing().filter((name) => SOFTWARE[name].unpack)
        if (process.getuid() === 0) {
            const packaged = () => missing().filter((name) => SOFTWARE[name].packages)
            if (packaged().length > 0)
                await install(() => packaged().flatMap((name) => SOFTWARE[name].packages))
        }
        for (const name of unpacked)
            await SOFTWARE[name].unpack(() => SOFTWARE[name].find() !== undefined)
    }
    catch (error) {
        return error
    }
}

/** The one command that installs `names`. */
function command (names) {
    const packages = names.flatMap((name) => SOFTWARE[name].packages ?? [])
    const parts = []
    if (packages.length > 0)
        parts.push(`${process.getuid() === 0 ? "" : "sudo "}apt-get install --yes --no-install-recommends ${packages.join(" ")}`)
    if (names.some((name) => SOFTWARE[name].unpack))
        parts.push(`IPC_MUTEX_TEST_INSTALL=always node ${relative(process.cwd(), self)} ${names.filter((name) => SOFTWARE[name].unpack).join(" ")}`)
    return parts.join(" && ")
}

function inPath (name) {
    // administrators' programs are not in everybody's path
    return inFolders([ ...preferredFolders(), ...foldersIn(process.env.PATH), "/usr/sbin" ], name)
}

function preferredFolders () {
    return foldersIn(process.env.IPC_MUTEX_TEST_PATH)
}

function foldersIn (path) {
    return (path ?? "").split(delimiter).filter(Boolean)
}

function inFolders (folders, name) {
    return folders.map((folder) => executable(join(folder, name))).find(Boolean)
}

function executable (path) {
    try {
        accessSync(path, constants.X_OK)
        return statSync(path).isFile() ? path : undefined
    }
    catch {
        return undefined
    }
}

function need (programs) {
    return Object.values(programs).every(Boolean) ? programs : undefined
}

/** Redis, else Valkey. */
function findRedis () {
    const names = [ "redis-server", "valkey-server" ]
    const preferred = names.map((name) => inFolders(preferredFolders(), name))
    return need({ redis: [ ...preferred, ...names.map(inPath) ].find(Boolean) })
}

/** The preferred one, else the newest version that Debian's layout has, else the one whose initdb is in the path. */
function findPostgres () {
    const root = "/usr/lib/postgresql"
    let versions = []
    try {
        versions = readdirSync(root).filter((name) => /^\d+$/.test(name)).sort((a, b) => b - a)
    }
    catch { /* not Debian's layout */ }
    const initdb = inPath("initdb")
    const folders = [ ...preferredFolders(), ...versions.map((version) => join(root, version, "bin")), ...(initdb ? [ dirname(realpathSync(initdb)) ] : []) ]
    return folders.map((folder) => need({ postgres: executable(join(folder, "postgres")), initdb: executable(join(folder, "initdb")) })).find(Boolean)
}

if (process.argv[1] && realpathSync(process.argv[1]) === realpathSync(self))
    try {
        const names = process.argv.slice(2)
        for (const [ name, path ] of Object.entries(await ensureServers(names.length > 0 ? names : undefined)))
            console.log(`${name.padEnd(10)} ${path}`)
    }
    catch (error) {
        console.error(`install: ${error.message}\n(${error.cause?.message ?? error.cause ?? "no reason known"})`)
        process.exitCode = 1
    }
