// A private PgBouncer in front of a private PostgreSQL server.
import { chown, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { ensureServers } from "../install.mjs"
import { PgClient } from "../clients/pg.mjs"
import { Daemon } from "./daemon.mjs"
import { databaseAccount } from "./postgres.mjs"
import { Server } from "./server.mjs"

class PgBouncer extends Server {
    #behind

    constructor (behind, options) {
        super("pgsql", options)
        this.#behind = behind
    }

    async prepare () {
        const { pgbouncer } = await ensureServers([ "pgbouncer" ])
        const { port, user, database } = this.#behind
        const account = await databaseAccount() // it refuses to run as root, too
        Object.assign(this, { user, database, port: await this.takePort() })
        const users = join(this.folder, "users")
        await writeFile(users, `"${user}" ""\n`)
        const file = join(this.folder, "pgbouncer.ini")
        await writeFile(file, [ "[databases]", `* = host=127.0.0.1 port=${port}`, "[pgbouncer]", "listen_addr = 127.0.0.1",
            `listen_port = ${this.port}`, "unix_socket_dir =", "auth_type = trust", `auth_file = ${users}`, `pool_mode = ${this.options.mode ?? "transaction"}`,
            "default_pool_size = 5", "ignore_startup_parameters = extra_float_digits,options", ...(this.options.config ?? []) ].join("\n") + "\n")
        if (account)
            for (const path of [ this.folder, users, file ]) // whatever the umask is, it must be able to read them
                await chown(path, account.uid, account.gid)
        this.daemons = [ new Daemon({ command: pgbouncer, args: [ file ], folder: this.folder, log: join(this.folder, "log"), account }) ]
        this.admin = new PgClient({ host: this.host, port: this.port }, { user, database: database ?? "template1" })
    }

    async answers () {
        await this.admin.query("SELECT 1")
        this.admin.disconnect()
        return true
    }

    async wipe () {}

    address () {
        return { ...super.address(), database: this.database }
    }

    /** With those of the option `parameters`. */
    parameters () {
        return { ...super.parameters(), ...this.options.parameters }
    }
}

/** See servers.mjs. */
export function startPgBouncer (server, options = {}) {
    return new PgBouncer(server, options).open()
}
