import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, postgres } from "../support/servers.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
const server = await postgres(after, { password: true })
conformance({
    name: "pgsql",
    model: "rpm",
    processes: true,
    url: (id, params) => server.url(id, params),
    clean: () => noLeftovers(server)
})
