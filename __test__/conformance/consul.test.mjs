import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, consul } from "../support/servers.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
const server = await consul(after, { password: true })
conformance({
    name: "consul",
    model: "rpm",
    processes: true,
    url: (id, params) => server.url(id, params),
    clean: () => noLeftovers(server)
})
