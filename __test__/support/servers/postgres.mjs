// A private PostgreSQL server. It refuses to run as root, so for root it runs as the user "postgres".
import { chmod, chown, copyFile, rm, writeFile } from "node:fs/promises"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { join } from "node:path"
import { ensureServers } from "../install.mjs"
import { PgClient } from "../clients/pg.mjs"
import { waitFor } from "../waiting.mjs"
import { Daemon } from "./daemon.mjs"
import { Server, serverCertificate, tlsFiles } from "./server.mjs"

const run = promisify(execFile)
const ADMIN = "support"
const METHODS = { scram: "scram-sha-256", md5: "md5", password: "password", trust: "trust" }

class PostgresServer extends Server {
    gentleClose = true // a killed postmaster would leave its System V memory segment behind

    async prepare () {
        this.binaries = await ensureServers([ "postgres" ])
        this.user ??= "tester"
        this.database = this.options.database
        this.port = await this.takePort()
        this.account = await databaseAccount()
        this.data = join(this.folder, "data")
        if (this.account)
            await chown(this.folder, this.account.uid, this.account.gid)
        await this.#initialise()
        this.daemons = [ new Daemon({
            command: this.binaries.postgres, args: [ "-D", this.data ], folder: this.folder, log: join(this.folder, "log"),
            account: this.account, gently: "SIGINT", // "fast shutdown": does not wait for clients
            patience: 60_000 // by force it would lose what was committed last
        }) ]
        this.admin = new PgAdmin({ path: join(this.folder, `.s.PGSQL.${this.port}`) }, { user: ADMIN, database: "postgres" })
    }

    async #initialise () {
        const { options } = this
        await run(this.binaries.initdb, [ "-D", this.data, "-U", ADMIN, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C" ],
            { ...this.account, cwd: this.folder, env: { PATH: process.env.PATH, LC_ALL: "C" } })
        const auth = options.auth ?? (this.password === undefined ? "trust" : "scram")
        const settings = {
            listen_addresses: "'127.0.0.1'", port: this.port, unix_socket_directories: `'${this.folder}'`,
            max_connections: 200, shared_buffers: "'16MB'", fsync: "off", synchronous_commit: "off", full_page_writes: "off",
            autovacuum: "off", max_wal_senders: 0, wal_level: "minimal", logging_collector: "off",
            password_encryption: `'${auth === "md5" ? "md5" : "scram-sha-256"}'`
        }
        if (options.standby)
            Object.assign(settings, { wal_level: "replica", hot_standby: "on" })
        let kind = "host"
        if (options.tls) {
            const { crt, key } = serverCertificate(options.tls)
            const own = async (from, name) => {
                const path = join(this.folder, name)
                await copyFile(from, path)
                await chmod(path, 0o600) // as the server insists for the key
                if (this.account)
                    await chown(path, this.account.uid, this.account.gid)
                return `'${path}'`
            }
            Object.assign(settings, { ssl: "on", ssl_cert_file: await own(crt, "server.pem"), ssl_key_file: await own(key, "key.pem"),
                ssl_ca_file: await own(tlsFiles.ca, "ca.pem") })
            kind = "hostssl"
        }
        const lines = Object.entries(settings).map(([ name, value ]) => `${name} = ${value}`)
        await writeFile(join(this.data, "postgresql.conf"), [ ...lines, ...(options.config ?? []) ].join("\n") + "\n")
        await writeFile(join(this.data, "pg_hba.conf"), [
            `local all ${ADMIN} trust`,
            `host all ${ADMIN} all reject`,
            `${kind} all all 127.0.0.1/32 ${METHODS[auth]}${options.clientCert ? " clientcert=verify-ca" : ""}`
        ].join("\n") + "\n")
    }

    async answers () {
        return (await this.admin.query("SELECT 1")).length === 1
    }

    async populate () {
        const quoted = (text) => `'${text.replaceAll("'", "''")}'`
        const named = (text) => `"${text.replaceAll("\"", "\"\"")}"`
        await this.admin.query(`CREATE ROLE ${named(this.user)} LOGIN${this.password === undefined ? "" : ` PASSWORD ${quoted(this.password)}`}`)
        if (this.database !== undefined && ![ "template1", "postgres" ].includes(this.database))
            await this.admin.query(`CREATE DATABASE ${named(this.database)}`)
        if (this.options.standby) {
            await this.admin.query("CHECKPOINT") // the role outlives a stop that has to be made by force
            await this.stop()
            await writeFile(join(this.data, "standby.signal"), "")
            await this.start()
        }
    }

    async wipe () {
        await rm(this.data, { recursive: true, force: true })
        await this.#initialise()
    }

    address () {
        return { ...super.address(), database: this.database }
    }

    /** With those of the option `parameters`. */
    parameters () {
        return { ...super.parameters(), ...this.options.parameters }
    }
}

class PgAdmin extends PgClient {
    /** Client sessions but the tests' own: `{ pid, application, state, query }`. */
    async sessions () {
        const rows = await this.query("SELECT pid, application_name, state, query FROM pg_stat_activity"
            + ` WHERE backend_type = 'client backend' AND usename IS DISTINCT FROM '${ADMIN}'`)
        return rows.map(([ pid, application, state, query ]) => ({ pid: Number(pid), application, state, query }))
    }

    /** Advisory locks: `{ pid, key (bigint), mode, granted }`; key is that of the one-argument functions. */
    async locks () {
        const rows = await this.query("SELECT pid, (classid::bigint << 32) | objid::bigint, objsubid, mode, granted FROM pg_locks WHERE locktype = 'advisory'")
        return rows.map(([ pid, key, kind, mode, granted ]) =>
            ({ pid: Number(pid), key: BigInt(key), pair: kind === "2", mode, granted: granted === "t" }))
    }

    /**
     * Ends the server's process of every client session (or of those whose pids are given), as an operator would. Resolves when their
     * locks are free: a session tells its client that it ends a moment before it lets go of them.
     */
    async terminate (pids) {
        const doomed = (pids ?? (await this.sessions()).map((session) => session.pid)).map(Number)
        for (const pid of doomed)
            await this.query(`SELECT pg_terminate_backend(${pid})`)
        const left = async () => [ ...await this.sessions(), ...await this.locks() ].filter(({ pid }) => doomed.includes(pid))
        await waitFor(async () => (await left()).length === 0, { timeout: 60_000, what: "terminated sessions to be gone" })
    }

    async traces () {
        const locks = (await this.locks()).map(({ pid, key, mode, granted }) => `advisory lock ${key} ${mode} ${granted ? "held" : "awaited"} by ${pid}`)
        const tables = await this.query("SELECT datname FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
        return [ ...locks, ...tables.map(([ name ]) => `open transaction in ${name}`) ]
    }
}

/** Whom a database program runs as when root starts it, `{ uid, gid }`; undefined for the present user. */
export async function databaseAccount () {
    if (process.getuid() !== 0)
        return undefined
    const id = async (what) => Number((await run("id", [ what, "postgres" ])).stdout)
    return { uid: await id("-u"), gid: await id("-g") }
}

/** See servers.mjs. */
export function startPostgres (options = {}) {
    return new PostgresServer("pgsql", options).open()
}
