// time limit: 900 s
import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, consul } from "../support/servers.mjs"
import { conformance } from "./suite.mjs"
import { PATIENT } from "./world.mjs"

// What is left behind may be waited for after the last test.
watchLeaks({ grace: 120_000 })
const server = await consul(after, { password: true })
conformance({
    name: "consul",
    model: "rpm",
    processes: true,
    url: (id, params) => server.url(id, { ...PATIENT, ...params }),
    clean: (timeout) => noLeftovers(server, { timeout })
})
