// A private Redis (or Valkey) server.
import { readdir, rm, writeFile } from "node:fs/promises"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { ensureServers } from "../install.mjs"
import { RespClient } from "../clients/resp.mjs"
import { Daemon } from "./daemon.mjs"
import { Server, serverCertificate, tlsFiles } from "./server.mjs"

const ADMIN = "support"

class RedisServer extends Server {
    async prepare () {
        const binaries = await ensureServers([ "redis" ])
        const { options } = this
        this.port = await this.takePort()
        const socket = join(this.folder, "s")
        const secret = randomBytes(12).toString("hex")
        const lines = [
            "bind 127.0.0.1", "protected-mode no", "daemonize no", `dir ${quote(this.folder)}`, `unixsocket ${quote(socket)}`, "save \"\"",
            `appendonly ${options.persistent ? "yes" : "no"}`, "appendfsync everysec",
            `user ${ADMIN} on >${secret} ~* &* +@all`
        ]
        if (this.user !== undefined)
            lines.push("user default off", `user ${this.user} on ${this.password === undefined ? "nopass" : `>${this.password}`} ~* &* +@all`)
        else if (this.password !== undefined)
            lines.push(`requirepass ${quote(this.password)}`)
        if (options.tls) {
            const { crt, key } = serverCertificate(options.tls)
            lines.push("port 0", `tls-port ${this.port}`, `tls-cert-file ${quote(crt)}`, `tls-key-file ${quote(key)}`,
                `tls-ca-cert-file ${quote(tlsFiles.ca)}`, `tls-auth-clients ${options.clientCert ? "yes" : "no"}`)
        }
        else
            lines.push(`port ${this.port}`)
        const config = join(this.folder, "redis.conf")
        await writeFile(config, [ ...lines, ...(options.config ?? []) ].join("\n") + "\n")
        this.daemons = [ new Daemon({ command: binaries.redis, args: [ config ], folder: this.folder, log: join(this.folder, "log") }) ]
        this.admin = new RedisAdmin({ path: socket }, [ ADMIN, secret ])
    }

    async answers () {
        return await this.admin.command("PING") === "PONG"
    }

    async wipe () {
        for (const name of await readdir(this.folder))
            if (/^appendonly|\.rdb$|\.aof$/.test(name))
                await rm(join(this.folder, name), { recursive: true })
    }

    // for Redis the user's place in the URL is meaningless, an ACL user is a parameter
    address () {
        return { ...super.address(), user: this.password === undefined ? undefined : "x" }
    }

    parameters () {
        return { ...super.parameters(), ...(this.user === undefined ? {} : { user: this.user }) }
    }
}

class RedisAdmin extends RespClient {
    /** `CLIENT LIST` as objects, without the connections of the tests' own views. */
    async clients () {
        const text = await this.command("CLIENT", "LIST")
        return text.trim().split("\n").map((line) => Object.fromEntries(line.split(" ").map((pair) => {
            const at = pair.indexOf("=")
            return [ pair.slice(0, at), pair.slice(at + 1) ]
        }))).filter((client) => client.user !== ADMIN)
    }

    /** Calls of each command since the start or `CONFIG RESETSTAT`: `{ set: 12, ... }`. */
    async commandCounts () {
        const text = await this.command("INFO", "commandstats")
        return Object.fromEntries([ ...text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm) ].map(([ , name, calls ]) => [ name, Number(calls) ]))
    }

    /** All keys of all databases in use, as `{ db, key }`. */
    async keys () {
        const space = await this.command("INFO", "keyspace")
        const found = []
        for (const [ , db ] of space.matchAll(/^db(\d+):/gm)) {
            await this.command("SELECT", db)
            for (const key of await this.command("KEYS", "*"))
                found.push({ db: Number(db), key })
        }
        await this.command("SELECT", 0)
        return found
    }

    // the counter of fencing tokens is meant to stay for a day: it knows of tokens that a clock set back would give again
    async traces () {
        return (await this.keys()).filter(({ key }) => !/^\{.*\/lock\.IPC-Mutex-rpm\}:token$/.test(key)).map(({ db, key }) => `key ${key}${db ? ` in database ${db}` : ""}`)
    }
}

function quote (text) {
    return JSON.stringify(text)
}

/** See servers.mjs. */
export function startRedis (options = {}) {
    return new RedisServer("redis", options).open()
}
