-- In front of state.lua and acquire.lua, for what is common and needs no look at all of the state: takes a lock that is free and that
-- nobody waits for, or a place behind an exclusive hold of ours and waiters that live. Half the server's time goes into reading the
-- state; acquire.lua does the rest.
--
-- KEYS, ARGV and the answer as in acquire.lua

do
    local owner, mode, attempt, fenced, ttl, channel, info = unpack(ARGV)
    local value = call('GET', MAIN)
    if not value then
        if mode == 'x' and call('EXISTS', QUEUE, READERS) == 0 then
            local micros = read_clock()
            local token = mint(fenced, micros)
            hold(owner, token, ttl, info)
            remember(token)
            return { text(micros), { 'held', token } }
        end
    elseif attempt ~= 'try' and string.sub(value, 1, #EXCLUSIVE) == EXCLUSIVE
        and string.sub(value, #EXCLUSIVE + 1, #EXCLUSIVE + #owner + 1) ~= owner .. ' '
        and not call('ZSCORE', QUEUE, owner) then
        local micros = read_clock()
        local now = math.floor(micros / 1000)
        local head = call('ZRANGE', QUEUE, 0, 0)[1]
        if not head or tonumber(call('ZSCORE', BEATS, head) or '0') > now then
            local ticket = head and tonumber(call('ZREVRANGE', QUEUE, 0, 0, 'WITHSCORES')[2]) or 0
            call('ZADD', QUEUE, text(ticket + 1), owner)
            call('ZADD', BEATS, text(now + ttl), owner)
            call('HSET', INFO, owner, table.concat({ mode, fenced, ttl, channel, text(micros), info }, ' '))
            -- A queue that lives long enough has lived with what is beside it; half a second is enough to spare.
            if not head or call('PTTL', QUEUE) < ttl + 500 then
                call('PEXPIRE', QUEUE, text(ttl + 1000))
                call('PEXPIRE', BEATS, text(ttl + 1000))
                if call('PTTL', INFO) < ttl + 1000 then
                    call('PEXPIRE', INFO, text(ttl + 1000))
                end
            end
            return { text(micros), { 'queued', head and 0 or 1, 0, call('PTTL', MAIN) } }
        end
    end
end
