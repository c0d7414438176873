;; Grows its table without end at every call: what Rust cannot say, and therefore by hand. `cargo xtask guests` makes a component of it.
;;
;; The types are those of wit/guest.wit, as far as `publish` needs them. No grants.
(component
  (core module $program
    (memory (export "memory") 1)
    (table 1 funcref)
    (global $free (mut i32) (i32.const 1024))
    ;; Memory is never given back; there is only one call.
    (func (export "realloc") (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32) (result i32)
      (local $at i32)
      ;; Rounded up to 16, which every alignment divides.
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
      (global.set $free (i32.add (local.get $at) (local.get $bytes)))
      (block $there_is_room
        (br_if $there_is_room (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.add (i32.shr_u (local.get $bytes) (i32.const 16)) (i32.const 1)))))
      (local.get $at))
    (func (export "handle") (param i32) (result i32)
      (loop $again
        (drop (table.grow 0 (ref.null func) (i32.const 1000)))
        (br $again))
      (unreachable)))
  (core instance $program (instantiate $program))

  (type $header' (record (field "name" string) (field "value" string)))
  (export $header "header" (type $header'))
  (type $qos' (enum "at-most-once" "at-least-once" "exactly-once"))
  (export $qos "qos" (type $qos'))
  (type $client' (record
    (field "client-id" string) (field "username" (option string)) (field "peer" string) (field "protocol-version" u8)
    (field "certificate-name" (option string)) (field "connected-at-ms" u64)))
  (export $client "client" (type $client'))
  (type $message' (record
    (field "topic" string) (field "payload" (list u8)) (field "qos" $qos) (field "retain" bool) (field "expiry-s" (option u32))
    (field "content-type" (option string)) (field "response-topic" (option string)) (field "correlation-data" (option (list u8)))
    (field "user-properties" (list $header))))
  (export $message "message" (type $message'))
  (type $context' (record (field "id" u64) (field "time-ms" u64) (field "node" string)))
  (export $context "context" (type $context'))
  (type $kafka-record' (record
    (field "topic" (option string)) (field "key" (option (list u8))) (field "value" (option (list u8)))
    (field "headers" (list $header))))
  (export $kafka-record "kafka-record" (type $kafka-record'))
  (type $denial' (record (field "reason-code" u8) (field "reason" string)))
  (export $denial "denial" (type $denial'))
  (type $fault' (variant (case "invalid" string) (case "retry" string) (case "internal" string)))
  (export $fault "fault" (type $fault'))
  (type $changes' (record
    (field "message" (option $message)) (field "headers" (list $header)) (field "records" (option (list $kafka-record)))))
  (export $changes "changes" (type $changes'))
  (type $verdict' (variant (case "pass") (case "change" $changes) (case "drop" string) (case "deny" $denial)))
  (export $verdict "verdict" (type $verdict'))

  (func $handle (param "context" $context) (param "client" $client) (param "message" $message) (result (result $verdict (error $fault)))
    (canon lift
      (core func $program "handle") (memory (core memory $program "memory")) (realloc (core func $program "realloc"))))
  (instance $publish (export "handle" (func $handle)))
  (export "hookgate:guest/publish@0.1.0" (instance $publish)))
