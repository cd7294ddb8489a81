// Locks on Consul: floors by bare HTTP over connections that stay open, and the client that people use.
import http from "node:http"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)

class Api {
    #agent = new http.Agent({ keepAlive: true })
    #target

    constructor ({ host, port }) {
        this.#target = { host, port, agent: this.#agent }
    }

    call (method, path, body = "") {
        return new Promise((resolve, reject) => {
            const request = http.request({ ...this.#target, method, path, headers: { "content-length": Buffer.byteLength(body) } }, (response) => {
                let text = ""
                response.setEncoding("utf8").on("data", (chunk) => { text += chunk })
                response.on("end", () => response.statusCode < 400 || response.statusCode === 404
                    ? resolve({ text, index: response.headers["x-consul-index"] ?? "0" })
                    : reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`)))
            })
            request.on("error", reject)
            request.end(body)
        })
    }

    async session () {
        return JSON.parse((await this.call("PUT", "/v1/session/create", JSON.stringify({ Name: "bench", TTL: "30s", LockDelay: "0s" }))).text).ID
    }

    close () {
        this.#agent.destroy()
    }
}

/** The key taken and freed for one session, one PUT each; waiting by a blocking query. */
export async function floor (target) {
    const api = new Api(target)
    const session = await api.session()
    return {
        lock: (id) => ({
            acquire: async () => {
                let index = 0
                while ((await api.call("PUT", `/v1/kv/floor/${id}?acquire=${session}`)).text.trim() !== "true") {
                    // Taken: wait for its next change, unless that has come already.
                    for (;;) {
                        const seen = await api.call("GET", `/v1/kv/floor/${id}?wait=5s&index=${index}`)
                        index = seen.index
                        if (!seen.text.includes("\"Session\""))
                            break
                    }
                }
            },
            release: () => api.call("PUT", `/v1/kv/floor/${id}?release=${session}`)
        }),
        async close () {
            await api.call("PUT", `/v1/session/destroy/${session}`)
            api.close()
        }
    }
}

/** Nothing but news: one changes a key, the other hears it from a blocking query. */
export async function blockingQuery (target) {
    const api = new Api(target)
    const path = (id) => `/v1/kv/news/${id}`
    return {
        async lock (id) {
            let { text, index } = await api.call("GET", path(id))
            return {
                acquire: async () => {
                    const before = text
                    while (text === before)
                        ({ text, index } = await api.call("GET", `${path(id)}?wait=30s&index=${index}`))
                },
                release: async () => {
                    await api.call("PUT", path(id), `${Math.random()}`);
                    ({ text, index } = await api.call("GET", path(id)))
                }
            }
        },
        prime: (id) => api.call("PUT", path(id), `${Math.random()}`),
        close: () => api.close()
    }
}

/** consul, the last release that had locks. */
export function consul ({ host, port }) {
    const client = require("consul")({ host, port: String(port) })
    return {
        lock (id) {
            let held
            return {
                acquire: () => new Promise((resolve, reject) => {
                    const lock = client.lock({ key: `consul/${id}` })
                    lock.once("acquire", () => {
                        held = lock
                        resolve()
                    })
                    lock.on("error", reject)
                    lock.acquire()
                }),
                release: () => new Promise((resolve) => {
                    held.once("end", resolve)
                    held.release()
                })
            }
        }
    }
}
