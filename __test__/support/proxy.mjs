// A TCP proxy between a client and a server of the tests, that makes the network misbehave on command.
import { connect, createServer } from "node:net"
import { returnPort, takePort } from "./ports.mjs"

const SETTINGS = Object.freeze({ accepting: "pass", requests: true, replies: true, delay: 0 })

/**
 * Starts a proxy on a free loopback port. It ends with test `t` if one is given.
 *
 *     const proxy = await startProxy(server, t)
 *     const mutex = new Mutex(server.url("foo", {}, proxy.port))
 *     proxy.blackhole()
 *
 * @param {{ port: number, host?: string } | number} target a server of servers.mjs, or a port
 * @param {object} [t] the context of a test
 * @returns {Promise<Proxy>}
 */
export async function startProxy (target, t) {
    const proxy = new Proxy(typeof target === "number" ? { port: target } : target)
    await proxy.open()
    t?.after(() => proxy.close())
    return proxy
}

class Proxy {
    /** Where clients connect to. */
    port
    /** Bytes so far: that clients sent (`requests`) and got (`replies`) through the proxy, and that vanished (`lost`). */
    bytes = { requests: 0, replies: 0, lost: 0 }
    /** How many connections it has accepted so far. */
    accepted = 0
    #target
    #server
    #links = new Set()
    #settings = { ...SETTINGS }
    #frozen = false
    #closed = false

    constructor (target) {
        this.#target = { host: target.host ?? "127.0.0.1", port: target.port }
    }

    async open () {
        this.port ??= await takePort()
        const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => this.#accept(client))
        this.#server = server
        await new Promise((resolve, reject) => {
            server.once("error", reject)
            server.listen({ port: this.port, host: "127.0.0.1" }, resolve)
        })
        server.on("error", () => {})
        server.unref()
    }

    /** How many connections are open between clients and the proxy. */
    connections () {
        return this.#links.size
    }

    /** Cuts all connections with a reset; new ones are treated as before. */
    reset () {
        for (const link of [ ...this.#links ])
            link.reset()
    }

    /** All connections stay open and nothing passes any more, either way; new ones are accepted and lead nowhere. */
    blackhole () {
        this.#change({ requests: false, replies: false, accepting: "swallow" })
    }

    /** Requests pass, replies vanish, on old and new connections. */
    dropReplies () {
        this.#change({ requests: true, replies: false, accepting: "pass" })
    }

    /** Requests vanish, replies pass (to requests of before, and what a server says on its own). */
    dropRequests () {
        this.#change({ requests: false, replies: true, accepting: "pass" })
    }

    /** Everything takes `milliseconds` longer from now on, each way. */
    delay (milliseconds) {
        this.#change({ delay: milliseconds })
    }

    /** Nothing passes for now, either way, but nothing is lost: `pass()` delivers it. New connections are accepted, and wait. */
    freeze () {
        this.#frozen = true
        for (const link of this.#links)
            link.freeze()
    }

    /** New connections are refused (the port is closed); those that are open stay. */
    async refuse () {
        if (this.#server?.listening)
            await new Promise((resolve) => {
                this.#server.close(() => {})
                setImmediate(resolve) // close() waits for the connections, but the port is closed now
            })
    }

    /**
     * Everything passes again. What vanished stays lost: connections that lost something can hardly go on, so they are reset
     * unless `keep` is true.
     */
    async pass ({ keep = false } = {}) {
        this.#settings = { ...SETTINGS }
        this.#frozen = false
        for (const link of this.#links)
            link.thaw()
        if (!keep)
            for (const link of [ ...this.#links ])
                if (link.torn)
                    link.reset()
        if (!this.#server.listening)
            await this.open()
    }

    /** Cuts everything and ends. May be called twice. */
    async close () {
        if (this.#closed)
            return
        this.#closed = true
        this.reset()
        await this.refuse()
        returnPort(this.port)
    }

    #change (settings) {
        Object.assign(this.#settings, settings)
    }

    #accept (client) {
        this.accepted++
        const link = new Link(client, this.#settings.accepting === "pass" ? this.#target : undefined, () => this.#settings, this.bytes)
        this.#links.add(link)
        if (this.#frozen)
            link.freeze()
        link.onend = () => this.#links.delete(link)
    }
}

/** One connection of a client and its counterpart to the server. */
class Link {
    /** Whether something of it has vanished. */
    torn = false
    onend
    #ends

    constructor (client, target, settings, bytes) {
        const server = target === undefined ? undefined : connect({ ...target, allowHalfOpen: true, noDelay: true })
        this.#ends = [ client, server ].filter(Boolean)
        client.setNoDelay(true)
        for (const end of this.#ends) {
            end.unref()
            end.on("error", () => this.reset()) // what happens to one side happens to the other
            end.on("close", () => {
                if (this.#ends.every((each) => each.destroyed))
                    this.onend?.()
            })
        }
        this.#carry(client, server, settings, bytes, "requests")
        if (server !== undefined)
            this.#carry(server, client, settings, bytes, "replies")
        client.resume()
    }

    freeze () {
        for (const end of this.#ends)
            end.pause()
    }

    thaw () {
        for (const end of this.#ends)
            end.resume()
    }

    reset () {
        for (const end of this.#ends)
            // a reset of a socket whose shutdown is under way leaves Node with a handle that it never closes: it hangs at exit
            if (end.writableEnded)
                end.destroy()
            else if (!end.destroyed)
                end.resetAndDestroy()
        this.onend?.()
    }

    #carry (from, to, settings, bytes, direction) {
        const pending = []
        let timer
        const flush = () => {
            timer = undefined
            while (pending.length > 0 && pending[0].due <= performance.now())
                deliver(pending.shift().data)
            if (pending.length > 0)
                timer = setTimeout(flush, pending[0].due - performance.now())
        }
        const deliver = (data) => {
            if (to === undefined || !settings()[direction]) {
                this.torn = true
                bytes.lost += data?.length ?? 0
                return
            }
            if (to.destroyed)
                return
            if (data === null) {
                to.end()
                return
            }
            bytes[direction] += data.length
            to.write(data)
        }
        const pass = (data) => {
            const { delay } = settings()
            if (delay === 0 && pending.length === 0)
                return deliver(data)
            pending.push({ data, due: performance.now() + delay })
            timer ??= setTimeout(flush, delay)
        }
        from.on("data", pass)
        from.on("end", () => pass(null))
        from.on("close", () => clearTimeout(timer))
    }
}
