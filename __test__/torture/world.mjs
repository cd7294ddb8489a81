// The processes of a torture: a server, clients that each reach it through a proxy of their own, and what became of them.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { startChild, waitFor } from "../support/children.mjs"
import { History, now } from "../support/history.mjs"
import { descendants } from "../support/processes.mjs"
import { startProxy } from "../support/proxy.mjs"
import { Bystander } from "./bystander.mjs"
import { noLeftovers, startConsul, startEtcd, startPostgres, startRedis } from "../support/servers.mjs"

/** How each server is started, and the time to live that its locks have (seconds). */
const TARGETS = {
    redis: { start: () => startRedis({ persistent: true, config: [ "appendfsync always" ] }), ttl: 2 },
    pgsql: { start: () => startPostgres({}), ttl: 3 },
    etcd: { start: () => startEtcd({ nodes: 3 }), ttl: 4 },
    consul: { start: () => startConsul({}), ttl: 10 },
    spm: { ttl: 1 },
    mpm: { ttl: 1 }
}

export const targets = Object.keys(TARGETS)

const LOCKS = 3, CLIENTS = 4, FLOWS = 3

export class World {
    clients = []
    /** The process ids of the clients that the present fault has chosen. */
    touched = []
    /** Process ids of clients that were killed, with the moment. */
    gone = []
    #proxies = []
    #started = 0

    #register
    #bystander

    /** @param {{ longest: number, isCalm: boolean, timed: boolean }} options see torture.mjs; whether there are no faults */
    constructor (target, seed, { longest, isCalm, timed }) {
        this.longest = longest
        this.isCalm = isCalm
        this.timed = timed
        this.target = target
        this.seed = seed
        this.ttl = TARGETS[target].ttl
        this.folder = mkdtempSync(join(tmpdir(), "imt-torture-"))
    }

    async open () {
        const { start } = TARGETS[this.target]
        if (start !== undefined)
            this.server = await start()
        this.#register = await startChild(undefined, new URL("./register.mjs", import.meta.url), [ join(this.folder, "register"), this.#accesses ])
        await this.#register.message("listens")
        if (this.server !== undefined)
            this.#bystander = new Bystander(this.target, this.server)
        for (let each = 0; each < (this.server === undefined ? 1 : CLIENTS); each++)
            await this.startClient()
    }

    get #accesses () {
        return join(this.folder, "accesses")
    }

    /** Starts one more client. */
    async startClient () {
        const number = this.#started++
        const urls = await this.#urls(number)
        const seed = this.seed + 1009 * number
        const settings = { target: this.target, urls, flows: FLOWS, seed, history: join(this.folder, "history"), register: join(this.folder, "register"),
            ttl: this.ttl, threads: number % 2 === 0, isCalm: this.isCalm, timed: this.timed }
        const program = this.target === "mpm" ? "./cluster.mjs" : "./client.mjs"
        const client = await startChild(undefined, new URL(program, import.meta.url), [ JSON.stringify(settings) ])
        client.number = number
        this.clients.push(client)
        return client
    }

    async #urls (number) {
        const ids = Array.from({ length: LOCKS }, (_, at) => `torture${at}`)
        if (this.server === undefined)
            return ids.map((id) => `${this.target}:${id}`)
        const ports = [ this.server.address().port ].flat()
        const proxies = await Promise.all(ports.map((port) => startProxy(port)))
        this.#proxies[number] = proxies
        const where = proxies.map((proxy) => proxy.port)
        return ids.map((id) => this.server.url(id, { ttl: this.ttl, connect_timeout: 3 }, where.length > 1 ? { port: where } : where[0]))
    }

    someClient (random) {
        const client = this.clients[Math.floor(random() * this.clients.length)]
        this.touched.push(client.pid)
        return client
    }

    someProxy (random) {
        const proxies = this.#proxies[this.someClient(random).number]
        return proxies[Math.floor(random() * proxies.length)]
    }

    async leader () {
        for (const node of this.server.nodes)
            if (await node.leads().catch(() => false))
                return node
        return this.server.nodes[0]
    }

    async kill (client) {
        this.clients.splice(this.clients.indexOf(client), 1)
        const at = now()
        this.gone.push(...[ client.pid, ...descendants(client.pid) ].map((pid) => ({ pid, at })))
        await client.end()
        for (const proxy of this.#proxies[client.number] ?? [])
            await proxy.close()
    }

    /** All clients finish what they do and leave. Returns those that did not. */
    async finish () {
        const stuck = []
        await Promise.all(this.clients.map(async (client) => {
            await client.message("listening").catch(() => {})
            await client.send("stop").catch(() => {})
            const { code, signal } = await client.exit({ timeout: 120_000 }).catch(() => ({}))
            if (code !== 0)
                stuck.push(`client ${client.pid} ended with ${code ?? signal ?? "nothing"}: ${client.stderr.slice(-2000)}`)
        }))
        await this.#bystander?.stop()
        if (this.server !== undefined && stuck.length === 0)
            await noLeftovers(this.server, { timeout: (this.ttl * 3 + 30) * 1000, ignore: /token/ }).catch((error) => stuck.push(error.message))
        return stuck
    }

    /** What the clients have written, histories and log lines, and what the register and the bystander have. */
    read () {
        const histories = [], lines = []
        const accesses = readFileSync(this.#accesses, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line))
        for (const file of readdirSync(this.folder).filter((name) => name.startsWith("history"))) {
            const path = join(this.folder, file)
            if (file.endsWith(".log"))
                lines.push(...readFileSync(path, "utf8").split("\n").filter(Boolean).map((line) => ({ file, ...JSON.parse(line) })))
            else
                histories.push(History.read(path))
        }
        // A process that was killed held nothing that it could still use. It may have written between the decision and its death.
        const last = new Map()
        for (const history of histories)
            for (const { owner, at } of history.events())
                last.set(owner, at)
        const killed = new History()
        for (const { pid, at } of [ ...this.gone, ...lines.filter(({ kind }) => kind === "gone") ])
            for (const [ owner, end ] of last)
                if (owner.startsWith(`${pid}.`) || owner.startsWith(`${pid}t.`))
                    killed.gone(owner, { at: end >= BigInt(at) ? end + 1n : BigInt(at) })
        return { histories: [ ...histories, killed ], lines, accesses, calls: this.#bystander?.calls ?? [] }
    }

    async close ({ keep = false } = {}) {
        for (const client of this.clients)
            await client.end()
        await this.#register?.end()
        for (const proxy of this.#proxies.flat())
            await proxy?.close()
        await this.server?.close()
        if (!keep && existsSync(this.folder))
            rmSync(this.folder, { recursive: true })
    }
}

export { waitFor }
