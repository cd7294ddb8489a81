import { after } from "node:test"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
const server = await redis(after, { password: true })
conformance({
    name: "redis",
    model: "rpm",
    processes: true,
    url: (id, params) => server.url(id, params),
    // a lock's counter of fencing tokens outlives its holds, and expires by itself
    clean: () => noLeftovers(server, { ignore: /:token$/ })
})
