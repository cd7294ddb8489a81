// What all private servers of tests share: a temporary folder, ports, a life cycle and the URL of a lock on them.
import { mkdtemp, rm } from "node:fs/promises"
import { randomBytes } from "node:crypto"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { returnPort, takePort } from "../ports.mjs"
import { guardPath, unguard } from "../reaper.mjs"
import { waitFor } from "../waiting.mjs"
import { foreignConnections } from "../connections.mjs"

const certs = join(dirname(dirname(fileURLToPath(import.meta.url))), "certs")

/** The PEM files of the tests, see certs/make.sh. */
export const tlsFiles = Object.freeze({
    ca: join(certs, "ca.pem"),
    crt: join(certs, "client.pem"),
    key: join(certs, "client-key.pem"),
    unknownCa: join(certs, "unknown-ca.pem"),
    unknownCrt: join(certs, "unknown-client.pem"),
    unknownKey: join(certs, "unknown-client-key.pem")
})

/** The server's own certificate and key for the option `tls`: true, "expired" or "wrong-name". */
export function serverCertificate (tls) {
    const name = tls === true ? "server" : tls
    if (![ "server", "expired", "wrong-name" ].includes(name))
        throw new Error(`unknown value of option tls: ${tls}`)
    return { crt: join(certs, `${name}.pem`), key: join(certs, `${name}-key.pem`) }
}

export class Server {
    /** "redis", "pgsql", "consul" or "etcd": also the second half of the URL's scheme. */
    name
    host = "127.0.0.1"
    /** The port that clients use; of the first node in a cluster. */
    port
    /** What the URL carries, undefined without authentication. */
    user
    password
    /** The processes, one per node. */
    daemons = []
    tlsFiles = tlsFiles
    #ports = []
    #closed = false

    constructor (name, options) {
        this.name = name
        this.options = options
        this.user = options.user
        this.password = options.password === true ? randomBytes(12).toString("hex") : options.password
    }

    /** Process id of the (first) server process; undefined while it does not run. */
    get pid () { return this.daemons[0]?.pid }
    get pids () { return this.daemons.map((daemon) => daemon.pid) }

    /** Starts what `prepare` of the subclass has described; if another process snatches a port, with other ports. */
    async open () {
        for (let tries = 1; ; tries++)
            try {
                this.folder = await mkdtemp(join(tmpdir(), "imt-")) // short: paths of Unix sockets end at 107 bytes
                guardPath(this.folder)
                await this.prepare()
                await this.start()
                await this.populate?.()
                return this
            }
            catch (error) {
                const snatched = /address already in use|EADDRINUSE/i.test(error.message)
                await this.close()
                if (!snatched || tries === 3)
                    throw error
                this.#closed = false
                this.daemons = []
            }
    }

    async takePort () {
        const port = await takePort()
        this.#ports.push(port)
        return port
    }

    /** Starts every process that does not run, and resolves when the server truly answers. */
    async start () {
        await Promise.all(this.daemons.filter((daemon) => !daemon.running).map((daemon) => daemon.start()))
        await this.ready()
    }

    /** Resolves when the server answers, having been started. */
    async ready () {
        try {
            await waitFor(() => this.answers(), {
                timeout: 60_000,
                what: `${this.name} server to answer on port ${this.port}`,
                hopeless: () => this.daemons.every((daemon) => !daemon.running) && "it has ended"
            })
        }
        catch (error) {
            throw new Error(`${error.message}\n${this.daemons.map((daemon) => daemon.output).join("\n")}`, { cause: error.cause })
        }
    }

    /** Ends the server in good order; port and data stay, `start()` brings it back. */
    async stop () {
        await Promise.all(this.daemons.map((daemon) => daemon.stop()))
        this.admin?.disconnect()
    }

    /** Ends the server with SIGKILL; port and data stay, `start()` brings it back. */
    async kill () {
        await Promise.all(this.daemons.map((daemon) => daemon.kill()))
        this.admin?.disconnect()
    }

    /**
     * Stops (or with `kill: true` kills) and starts the server on the same port and data.
     * With `wipe: true` it is killed and has lost its data (accounts and databases excepted).
     */
    async restart ({ wipe = false, kill = false } = {}) {
        await (kill || wipe ? this.kill() : this.stop())
        if (wipe)
            await this.wipe()
        await this.start()
        if (wipe)
            await this.populate?.()
    }

    /** SIGSTOP to all its processes: connections stay open and nothing answers. */
    async pause () {
        await Promise.all(this.daemons.map((daemon) => daemon.pause()))
    }

    /** SIGCONT to all its processes. */
    async resume () {
        for (const daemon of this.daemons)
            daemon.resume()
    }

    /** Ends the server for good and removes its folder. May be called twice, and at any time. */
    async close () {
        if (this.#closed)
            return
        this.#closed = true
        await Promise.all(this.daemons.map((daemon) => this.gentleClose ? daemon.stop() : daemon.kill()))
        this.admin?.disconnect()
        await rm(this.folder, { recursive: true, force: true, maxRetries: 5 })
        unguard(this.folder)
        for (const port of this.#ports.splice(0))
            returnPort(port)
    }

    /**
     * The URL of lock `id` on this server, with its credentials and TLS parameters.
     *
     * @param {string} id
     * @param {Record<string, unknown>} [params] query parameters; they win over the server's own, undefined removes one
     * @param {number | object} [where] a port (of a proxy), or any of `{ port, host, user, password, database }` to stand
     *   in place of the server's own (undefined removes it); `port` may be an array, for several etcd endpoints
     */
    url (id, params = {}, where = {}) {
        const { port, host, user, password, database } =
            { ...this.address(), ...(typeof where === "object" && !Array.isArray(where) ? where : { port: where }) }
        const encode = (text) => encodeURIComponent(text)
        let credentials = ""
        if (password !== undefined)
            credentials = `${encode(user ?? "x")}:${encode(password)}@`
        else if (user !== undefined)
            credentials = `${encode(user)}@`
        const hosts = [ port ].flat().map((each) => `${host}:${each}`).join(",")
        const query = new URLSearchParams(Object.entries({ ...this.parameters(), ...params })
            .filter(([ , value ]) => value !== undefined).map(([ name, value ]) => [ name, String(value) ])).toString()
        return `rpm+${this.name}://${credentials}${hosts}/${database === undefined ? "" : `${database}/`}${id}${query && `?${query}`}`
    }

    /** What `url` puts before the path. */
    address () {
        return { host: this.host, port: this.port, user: this.user, password: this.password }
    }

    /** What `url` puts into the query. */
    parameters () {
        if (!this.options.tls)
            return {}
        const { ca, crt, key } = tlsFiles
        return { tls: true, ca, ...(this.options.clientCert ? { crt, key } : {}) }
    }

    /** How many connections clients have open to this server, those of its own processes and of `admin` excepted. */
    async connections () {
        return foreignConnections(this.clientPorts ?? [ this.port ], this.pids.filter((pid) => pid !== undefined))
    }

    /** What clients left at the server (see noLeftovers in servers.mjs): a sentence for each thing. */
    async leftovers ({ connections = true, ignore } = {}) {
        const found = await this.admin.traces()
        const open = connections ? await this.connections() : 0
        if (open > 0)
            found.push(`${open} open connection${open === 1 ? "" : "s"}`)
        return ignore ? found.filter((each) => !ignore.test(each)) : found
    }
}
