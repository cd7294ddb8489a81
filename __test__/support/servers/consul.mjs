// A private Consul: one server, or a cluster of several. They keep their data, unlike Consul's own development mode.
import { rm, writeFile } from "node:fs/promises"
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { ensureServers } from "../install.mjs"
import { exchange, json } from "../clients/http.mjs"
import { waitFor } from "../waiting.mjs"
import { Daemon } from "./daemon.mjs"
import { Server, serverCertificate, tlsFiles } from "./server.mjs"

const NODE = "test"
/** The session that shows whether the server takes any; one whose end was not confirmed in time is nobody's leftover. */
const PROBE = "support"

class ConsulServer extends Server {
    async prepare () {
        const { consul } = await ensureServers([ "consul" ])
        const { tls, clientCert, nodes: count = 1, config = {} } = this.options
        const acl = this.options.acl ?? this.password !== undefined
        if (acl && !/^[0-9a-f-]{36}$/.test(this.password ?? ""))
            this.password = randomUUID() // Consul takes no other tokens
        const ports = []
        for (let each = 0; each < count; each++)
            ports.push({ http: await this.takePort(), server: await this.takePort(), serf: await this.takePort() })
        this.port = ports[0].http
        if (count > 1)
            this.clientPorts = ports.map(({ http }) => http)
        const master = randomUUID()
        const settings = {
            server: true, bind_addr: "127.0.0.1", client_addr: "127.0.0.1",
            ...(count === 1 ? { bootstrap: true } : {
                bootstrap_expect: count, retry_join: ports.map(({ serf }) => `127.0.0.1:${serf}`), retry_interval: "1s"
            }),
            performance: { raft_multiplier: 1 }, disable_update_check: true, disable_host_node_id: true, log_level: "warn",
            leave_on_terminate: false, skip_leave_on_interrupt: true
        }
        if (acl)
            settings.acl = { enabled: true, default_policy: "deny", tokens: { master, agent: master } }
        if (tls) {
            const { crt, key } = serverCertificate(tls)
            Object.assign(settings, { ca_file: tlsFiles.ca, cert_file: crt, key_file: key, verify_incoming_https: clientCert === true })
        }
        this.acl = acl
        this.nodes = []
        for (const [ at, { http, server, serf } ] of ports.entries()) {
            const [ file, socket ] = [ join(this.folder, `consul${at}.json`), join(this.folder, `s${at}`) ]
            const own = {
                node_name: at === 0 ? NODE : `${NODE}${at}`, data_dir: join(this.folder, `data${at}`),
                addresses: { http: tls ? `unix://${socket}` : `127.0.0.1 unix://${socket}` },
                ports: { http: tls ? 1 : http, https: tls ? http : -1, dns: -1, grpc: -1, server, serf_lan: serf, serf_wan: -1 }
            }
            await writeFile(file, JSON.stringify({ ...settings, ...own, ...config }))
            const daemon = new Daemon({ command: consul, args: [ "agent", "-config-file", file ], folder: this.folder, log: join(this.folder, `log${at}`) })
            this.daemons.push(daemon)
            this.nodes.push(new ConsulNode(daemon, { http, server }, new ConsulAdmin({ socketPath: socket }, acl ? master : undefined)))
        }
        this.admin = this.nodes[0].admin
    }

    /** It can hold locks when there is a leader and it has registered itself with its own health check. */
    async answers () {
        const checks = await this.admin.call("GET", `/v1/health/node/${NODE}`)
        if (!checks.some((check) => check.CheckID === "serfHealth" && check.Status === "passing"))
            return false
        for (const { admin } of this.nodes)
            await admin.call("GET", "/v1/kv/?keys&consistent").catch((error) => {
                if (error.status !== 404)
                    throw error
            })
        const probe = (await this.admin.call("PUT", "/v1/session/create", { Name: PROBE })).ID
        await this.admin.destroy(probe)
        return true
    }

    async populate () {
        if (!this.acl)
            return
        const Rules = "key_prefix \"\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }"
        // its tokens are valid a moment before it lets others be made
        await waitFor(() => this.admin.call("PUT", "/v1/acl/policy", { Name: "locks", Rules }), { what: "a policy to be made" })
        await this.admin.call("PUT", "/v1/acl/token", { SecretID: this.password, Policies: [ { Name: "locks" } ] })
    }

    async wipe () {
        for (const at of this.daemons.keys())
            await rm(join(this.folder, `data${at}`), { recursive: true, force: true })
    }

    /** The option `params`, and what all servers have: for tests that many others share, and that make their URLs themselves. */
    parameters () {
        return { ...super.parameters(), ...this.options.params }
    }
}

/** One server of the cluster. */
class ConsulNode {
    #daemon
    #address

    constructor (daemon, { http, server }, admin) {
        this.#daemon = daemon
        this.port = http
        this.#address = `127.0.0.1:${server}`
        this.admin = admin
    }

    get pid () { return this.#daemon.pid }
    async pause () { await this.#daemon.pause() }
    async resume () { this.#daemon.resume() }

    /** Whether this one leads the cluster, as it says itself. */
    async leads () {
        return await this.admin.call("GET", "/v1/status/leader") === this.#address
    }
}

class ConsulAdmin {
    #target
    #token

    constructor (target, token) {
        this.#target = target
        this.#token = token
    }

    /** One call of the HTTP API, JSON both ways: `call("GET", "/v1/session/list")`. */
    call (method, path, body) {
        return json(this.#target, method, path, { body, headers: this.#headers() })
    }

    #headers () {
        return this.#token === undefined ? {} : { "x-consul-token": this.#token }
    }

    /** All keys: `{ key, value, session, modifyIndex, lockIndex }`. */
    async keys () {
        const reply = await exchange(this.#target, "GET", "/v1/kv/?recurse", { headers: this.#headers() })
        if (reply.status === 404)
            return []
        if (reply.status !== 200)
            throw new Error(`${reply.status} ${reply.body}`)
        return JSON.parse(reply.body).map((entry) => ({
            key: entry.Key, value: entry.Value === null ? "" : Buffer.from(entry.Value, "base64").toString(),
            session: entry.Session, modifyIndex: entry.ModifyIndex, lockIndex: entry.LockIndex
        }))
    }

    /** All sessions, as Consul describes them: `{ ID, Name, Node, Behavior, TTL, LockDelay, ... }`. */
    async sessions () {
        return await this.call("GET", "/v1/session/list")
    }

    async destroy (session) { await this.call("PUT", `/v1/session/destroy/${session}`) }
    async remove (key) { await this.call("DELETE", `/v1/kv/${key}`) }

    async traces () {
        const keys = (await this.keys()).map(({ key, session }) => `key ${key}${session ? ` of session ${session}` : ""}`)
        const sessions = (await this.sessions()).filter(({ Name }) => Name !== PROBE)
        return [ ...keys, ...sessions.map(({ ID, Name }) => `session ${ID} ${Name}`) ]
    }

    disconnect () {}
}

/** See servers.mjs. */
export function startConsul (options = {}) {
    return new ConsulServer("consul", options).open()
}
