// A private etcd: one node, or a cluster of several.
import { rm } from "node:fs/promises"
import { readFileSync } from "node:fs"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { ensureServers } from "../install.mjs"
import { json } from "../clients/http.mjs"
import { waitFor } from "../waiting.mjs"
import { Daemon } from "./daemon.mjs"
import { Server, serverCertificate, tlsFiles } from "./server.mjs"

/** What a step of the setup says that an earlier try has done. */
const DONE = /already exists|user name is empty/

class EtcdServer extends Server {
    async prepare () {
        const { etcd } = await ensureServers([ "etcd" ])
        const { tls, clientCert, nodes: count = 1, config = [] } = this.options
        if (this.password !== undefined)
            this.user ??= "tester"
        const peers = []
        this.clientPorts = []
        for (let each = 0; each < count; each++) {
            this.clientPorts.push(await this.takePort())
            peers.push(await this.takePort())
        }
        this.port = this.clientPorts[0]
        const cluster = peers.map((port, at) => `n${at}=http://127.0.0.1:${port}`).join(",")
        const scheme = tls ? "https" : "http"
        const security = []
        if (tls) {
            const { crt, key } = serverCertificate(tls)
            security.push("--cert-file", crt, "--key-file", key)
            if (clientCert)
                security.push("--client-cert-auth", "--trusted-ca-file", tlsFiles.ca)
        }
        this.daemons = this.clientPorts.map((port, at) => new Daemon({
            command: etcd, folder: this.folder, log: join(this.folder, `log${at}`),
            args: [ "--name", `n${at}`, "--data-dir", join(this.folder, `data${at}`), "--logger", "zap", "--log-outputs", "stderr",
                "--listen-client-urls", `${scheme}://127.0.0.1:${port}`, "--advertise-client-urls", `${scheme}://127.0.0.1:${port}`,
                "--listen-peer-urls", `http://127.0.0.1:${peers[at]}`, "--initial-advertise-peer-urls", `http://127.0.0.1:${peers[at]}`,
                "--initial-cluster", cluster, "--initial-cluster-token", this.folder, "--initial-cluster-state", "new",
                ...security, ...config ],
            env: process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch } // 3.4 wants to be asked
        }))
        this.nodes = this.daemons.map((daemon, at) => new EtcdNode(this, daemon, this.clientPorts[at]))
        const target = (port) => ({ host: "127.0.0.1", port, ...(tls ? {
            ca: readFileSync(tlsFiles.ca), cert: readFileSync(tlsFiles.crt), key: readFileSync(tlsFiles.key),
            rejectUnauthorized: false // the tests' own view of a server with a bad certificate
        } : {}) })
        this.admin = new EtcdAdmin(() => this.clientPorts.filter((_, at) => this.daemons[at].running).map(target))
    }

    /** Every node that runs must answer a read that needs the quorum. */
    async answers () {
        for (const [ at, daemon ] of this.daemons.entries())
            if (daemon.running && !(await this.nodes[at].answers()))
                return false
        return true
    }

    async populate () {
        if (this.password === undefined)
            return
        const secret = randomBytes(12).toString("hex")
        await this.#arrange("role/add", { name: "root" })
        await this.#arrange("user/add", { name: "root", password: secret })
        await this.#arrange("user/grant", { user: "root", role: "root" })
        await this.#arrange("role/add", { name: "all" })
        await this.#arrange("role/grant", { name: "all", perm: { permType: "READWRITE", key: base64("\0"), range_end: base64("\0") } })
        await this.#arrange("user/add", { name: this.user, password: this.password })
        await this.#arrange("user/grant", { user: this.user, role: "all" })
        await this.#arrange("enable", {})
        this.admin.login("root", secret)
    }

    /** A step that an election may interrupt, after which nobody knows whether it was done: so it is repeated until it is. */
    async #arrange (step, body) {
        const call = async () => {
            try {
                await this.admin.call(`/v3/auth/${step}`, body)
            }
            catch (error) {
                if (!DONE.test(error.message))
                    throw error
            }
            return true
        }
        await waitFor(call, { timeout: 60_000, what: `etcd to do ${step}` })
    }

    async wipe () {
        this.admin.login()
        for (const at of this.daemons.keys())
            await rm(join(this.folder, `data${at}`), { recursive: true, force: true })
    }

    address () {
        return { ...super.address(), port: this.clientPorts }
    }

    /** The option `params`, and what all servers have: for tests that many others share, and that make their URLs themselves. */
    parameters () {
        return { ...super.parameters(), ...this.options.params }
    }
}

/** One node of the cluster. */
class EtcdNode {
    #server
    #daemon

    constructor (server, daemon, port) {
        this.#server = server
        this.#daemon = daemon
        this.port = port
    }

    get pid () { return this.#daemon.pid }

    async answers () {
        return (await this.#server.admin.at(this.port).call("/v3/kv/range", { key: base64("\0") })).header !== undefined
    }

    /** Resolves when the cluster answers; with `wait: false` already when the process exists. */
    async start ({ wait = true } = {}) {
        await this.#daemon.start()
        if (wait)
            await this.#server.ready()
    }

    async stop () { await this.#daemon.stop() }
    async kill () { await this.#daemon.kill() }
    async pause () { await this.#daemon.pause() }
    async resume () { this.#daemon.resume() }

    async restart ({ kill = false } = {}) {
        await (kill ? this.kill() : this.stop())
        await this.start()
    }

    /** Whether this node is the leader of the cluster. */
    async leads () {
        const status = await this.#server.admin.at(this.port).call("/v3/maintenance/status", {})
        return status.leader !== undefined && status.leader === status.header.member_id
    }
}

class EtcdAdmin {
    #targets
    #login
    #token

    constructor (targets, login) {
        this.#targets = targets
        this.#login = login ?? {}
    }

    /** The same view through one node. */
    at (port) {
        return new EtcdAdmin(() => this.#targets().filter((target) => target.port === port), this.#login)
    }

    login (name, password) {
        this.#token = undefined
        Object.assign(this.#login, { name, password })
    }

    /** One call of the JSON gateway, `call("/v3/kv/range", { key: base64("a") })`, on the first node that answers. */
    async call (path, body = {}) {
        let failure = new Error("no node runs")
        for (const target of this.#targets())
            for (let tries = 0; tries < 2; tries++)
                try {
                    return await this.#exchange(target, path, body)
                }
                catch (error) {
                    failure = error
                    this.#token = undefined // forgotten by a server that was restarted
                    if (!/invalid auth token|PermissionDenied|Unauthenticated/i.test(error.message))
                        break
                }
        throw failure
    }

    async #exchange (target, path, body) {
        if (this.#login.name !== undefined)
            this.#token ??= (await json(target, "POST", "/v3/auth/authenticate", { body: this.#login })).token
        const headers = this.#token === undefined ? {} : { authorization: this.#token }
        return await json(target, "POST", path, { body, headers })
    }

    /** All keys: `{ key, value, lease, createRevision, modRevision }`; texts, and bigints but for the lease's id. */
    async keys () {
        const reply = await this.call("/v3/kv/range", { key: base64("\0"), range_end: base64("\0") })
        return (reply.kvs ?? []).map((kv) => ({
            key: text(kv.key), value: text(kv.value ?? ""), lease: kv.lease,
            createRevision: BigInt(kv.create_revision), modRevision: BigInt(kv.mod_revision)
        }))
    }

    /** The ids of all leases, as decimal text. */
    async leases () {
        return ((await this.call("/v3/lease/leases")).leases ?? []).map((lease) => lease.ID)
    }

    async revoke (lease) { await this.call("/v3/lease/revoke", { ID: lease }) }
    async put (key, value) { await this.call("/v3/kv/put", { key: base64(key), value: base64(value) }) }
    async remove (key) { await this.call("/v3/kv/deleterange", { key: base64(key) }) }

    async traces () {
        const keys = (await this.keys()).map(({ key }) => `key ${key}`)
        return [ ...keys, ...(await this.leases()).map((id) => `lease ${id}`) ]
    }

    disconnect () {
        this.#token = undefined
    }
}

/** Text as the JSON gateway wants it, and back. */
export function base64 (plain) { return Buffer.from(plain).toString("base64") }
export function text (encoded) { return Buffer.from(encoded, "base64").toString() }

/** See servers.mjs. */
export function startEtcd (options = {}) {
    return new EtcdServer("etcd", options).open()
}
