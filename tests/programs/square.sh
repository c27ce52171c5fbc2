#!/bin/sh
# A resident program: a line of JSON-RPC in, a line out. It knows one method, of one number: {"jsonrpc":"2.0","id":7,"method":"square","params":[3]}
while read -r line; do
    id=${line#*'"id":'}
    id=${id%%,*}
    case $line in
    *'"method":"square"'*)
        n=${line#*'"params":['}
        n=${n%%]*}
        printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$((n * n))"
        ;;
    *) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
    esac
done
