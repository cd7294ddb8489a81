// A fresh process in which one contender is measured. Arguments (JSON): { contender: { file, name }, target }.
// It is asked by messages { call, method, argument } and answers { call, result } or { call, error }.
import * as workloads from "../workloads/index.mjs"
import { connector } from "./connector.mjs"

const { contender, target } = JSON.parse(process.argv[2])
const connect = await connector(contender)
let client

const methods = {
    ...workloads,
    async open () {
        client = await connect(target)
    },
    async close () {
        await client?.close?.()
        client = undefined
    }
}

process.on("message", async ({ call, method, argument }) => {
    try {
        const result = await methods[method]({ client, contender, target, ...argument })
        process.send({ call, result })
    }
    catch (error) {
        process.send({ call, error: error.stack ?? String(error) })
    }
})
// Some peers leave a rejection to nobody when they lose a lock; what that means for the lock is what is measured.
process.on("unhandledRejection", () => {})
process.on("disconnect", () => process.exit())
