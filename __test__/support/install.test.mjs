import test from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { ensureServers } from "./install.mjs"
import { watchLeaks } from "./leaks.mjs"

watchLeaks()

const script = fileURLToPath(new URL("./install.mjs", import.meta.url))
const root = process.getuid() === 0

/** Runs the script where the only program is the given apt-get (text of a shell script). */
function run (t, names, { apt, env } = {}) {
    const folder = mkdtempSync(join(tmpdir(), "imt-install-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const start = () => new Promise((resolve) => {
        const only = { PATH: folder, FOLDER: folder, IPC_MUTEX_TEST_CACHE: join(folder, "cache"), ...env }
        execFile(process.execPath, [ script, ...names ], { cwd: folder, env: only },
            (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }))
    })
    if (apt !== undefined)
        writeFileSync(join(folder, "apt-get"), `#!/bin/sh\n${apt}\n`, { mode: 0o755 })
    const log = () => existsSync(join(folder, "log")) ? readFileSync(join(folder, "log"), "utf8").trim().split("\n") : []
    return { folder, start, log }
}

test("all programs are found or installed, and answer to their names", async () => {
    const paths = await ensureServers()
    assert.deepEqual(Object.keys(paths), [ "redis", "postgres", "initdb", "etcd", "etcdctl", "consul", "pgbouncer" ])
    const version = (path, ...args) => new Promise((resolve) => execFile(path, args, (error, stdout) => resolve(stdout)))
    assert.match(await version(paths.redis, "--version"), /Redis|Valkey/)
    assert.match(await version(paths.postgres, "--version"), /^postgres \(PostgreSQL\)/)
    assert.match(await version(paths.etcd, "--version"), /^etcd Version/)
    assert.match(await version(paths.consul, "version"), /^Consul v1\./)
    assert.match(await version(paths.pgbouncer, "--version"), /^PgBouncer/)
})

test("what is missing is named by the one command that installs it, and nothing is done, when installing is off", async (t) => {
    const { start, folder, log } = run(t, [ "redis", "etcd", "consul" ], { apt: "echo called >> $FOLDER/log", env: { IPC_MUTEX_TEST_INSTALL: "never" } })
    const { code, stderr } = await start()
    assert.equal(code, 1)
    assert.match(stderr, new RegExp(`^install: ${root ? "" : "sudo "}apt-get install --yes --no-install-recommends redis-server etcd-server etcd-client`
        + ` && IPC_MUTEX_TEST_INSTALL=always node \\S*install\\.mjs consul\n`))
    assert.deepEqual(log(), [])
    assert.equal(existsSync(join(folder, "cache")), false)
})

test("without apt-get the command is named, too", async (t) => {
    const { code, stderr } = await run(t, [ "redis" ]).start()
    assert.equal(code, 1)
    assert.match(stderr, /apt-get install .* redis-server\n\(no apt-get here\)/)
})

test("root installs with fresh package lists, lets nothing be started, and does it once for two processes", async (t) => {
    const before = existsSync("/usr/sbin/policy-rc.d")
    const { start, log } = run(t, [ "redis" ], { apt: `
        if [ -e /usr/sbin/policy-rc.d ]; then policy=yes; else policy=no; fi
        echo "$1 $policy" >> $FOLDER/log
        case "$1" in
            update) : > $FOLDER/lists ;;
            install)
                [ -e $FOLDER/lists ] || exit 100
                printf '#!/bin/sh\\n' > $FOLDER/redis-server
                PATH=/bin:/usr/bin chmod 755 $FOLDER/redis-server ;;
        esac` })
    const results = await Promise.all([ start(), start() ])
    if (!root) {
        assert.deepEqual([ results.map(({ code }) => code), log() ], [ [ 1, 1 ], [] ])
        assert.match(results[0].stderr, /sudo apt-get install .* redis-server/)
        return
    }
    assert.deepEqual(results.map(({ code, stderr }) => [ code, stderr ]), [ [ 0, "" ], [ 0, "" ] ])
    assert.match(results[0].stdout, /^redis {6}\S+\/redis-server\n$/)
    assert.deepEqual(log(), [ "install yes", "update yes", "install yes" ])
    assert.equal(existsSync("/usr/sbin/policy-rc.d"), before)
})

test("an installation that fails is an error with the command and apt-get's own words", async (t) => {
    const { start } = run(t, [ "etcd" ], { apt: "echo no such package >&2; exit 100" })
    const { code, stderr } = await start()
    assert.equal(code, 1)
    assert.match(stderr, /apt-get install .* etcd-server etcd-client\n/)
    if (root)
        assert.match(stderr, /no such package/)
})

test("programs in IPC_MUTEX_TEST_PATH come before all others", async (t) => {
    const preferred = mkdtempSync(join(tmpdir(), "imt-preferred-"))
    t.after(() => rmSync(preferred, { recursive: true }))
    const programs = [ "valkey-server", "postgres", "initdb" ].map((name) => join(preferred, name))
    for (const path of programs)
        writeFileSync(path, "#!/bin/sh\n", { mode: 0o755 })
    const { start } = run(t, [ "redis", "postgres" ], { env: { PATH: process.env.PATH, IPC_MUTEX_TEST_PATH: preferred } })
    const { code, stdout } = await start()
    assert.equal(code, 0)
    assert.deepEqual(stdout.match(/\/\S+/g), programs)
})
