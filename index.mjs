import Mutex from "./index.js"

const { MutexError } = Mutex

export { Mutex, MutexError }
export default Mutex
