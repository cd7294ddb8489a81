import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, etcd } from "../support/servers.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
const server = await etcd(after, { password: true })
conformance({
    name: "etcd",
    model: "rpm",
    processes: true,
    url: (id, params) => server.url(id, params),
    clean: () => noLeftovers(server)
})
