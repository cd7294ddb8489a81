// A plain client of the server that has nothing to do with locks. It must be served all the time.
import { setTimeout as sleep } from "node:timers/promises"
import { now } from "../support/history.mjs"
import { PgClient } from "../support/clients/pg.mjs"
import { RespClient } from "../support/clients/resp.mjs"

const EVERY = 100
const NAME = "bystander"

/** What it does to each server, over and over, and how it leaves. */
const WORK = {
    redis ({ host, port }) {
        const client = new RespClient({ host, port })
        return {
            once: (number) => client.command("SET", NAME, number, "PX", 60_000),
            leave: async () => {
                await client.command("DEL", NAME).catch(() => {})
                client.disconnect()
            }
        }
    },
    pgsql (server) {
        const client = new PgClient({ host: server.host, port: server.port }, { user: server.user, database: server.database ?? "postgres", application: NAME })
        return { once: (number) => client.query(`select pg_notify('${NAME}', '${number}')`), leave: async () => client.disconnect() }
    },
    etcd: ({ admin }) => ({ once: (number) => admin.put(NAME, String(number)), leave: () => admin.remove(NAME).catch(() => {}) }),
    consul: ({ admin }) => ({
        once: (number) => admin.call("PUT", `/v1/kv/${NAME}`, number),
        leave: () => admin.remove(NAME).catch(() => {})
    })
}

export class Bystander {
    /** Each call: `{ from, to, error }`. */
    calls = []
    #work
    #running
    #stopping = false

    constructor (target, server) {
        this.#work = WORK[target](server)
        this.#running = this.#run()
    }

    async #run () {
        for (let number = 0; !this.#stopping; number++) {
            const call = { from: now(), to: undefined, error: undefined }
            this.calls.push(call)
            await this.#work.once(number).catch((error) => { call.error = error })
            call.to = now()
            await sleep(EVERY)
        }
    }

    async stop () {
        this.#stopping = true
        await this.#running
        await this.#work.leave()
    }
}
