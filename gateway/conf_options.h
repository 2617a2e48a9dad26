// SPDX-License-Identifier: Apache-2.0
// Every option of sealgate.conf, once: name, type by macro, default. conf.c makes libConfuse's
// tables of it, and a test compares it with sealgate.conf(5).
#pragma once

#define CONF_OPTIONS_TOP(TEXT, LIST, NUMBER, FLAG)      \
    LIST("domains", NULL)                               \
    TEXT("authserv-id", NULL)                           \
    TEXT("store", "/var/lib/sealgate/certificates.db")  \
    TEXT("trust-anchors", NULL)                         \
    TEXT("listen", "inet:7301@127.0.0.1")               \
    TEXT("reinject", NULL)                              \
    NUMBER("reinject-timeout", 60000)                   \
    LIST("internal-networks", "{127.0.0.0/8, ::1/128}") \
    LIST("originating-daemons", "{ORIGINATING}")        \
    TEXT("spool-directory", "/var/spool/sealgate")      \
    NUMBER("spool-memory", 1048576)                     \
    NUMBER("message-max", 52428800)                     \
    NUMBER("depth", 8)                                  \
    TEXT("log", "auto")                                 \
    TEXT("log-level", "info")

#define CONF_OPTIONS_IDENTITY(TEXT, LIST, NUMBER, FLAG) \
    TEXT("key", NULL)                                   \
    TEXT("certificate-file", NULL)                      \
    LIST("use", NULL)

#define CONF_OPTIONS_PROFILE(TEXT, LIST, NUMBER, FLAG) \
    TEXT("mode", NULL)                                 \
    LIST("signer", NULL)                               \
    TEXT("sign-mode", "detached")                      \
    TEXT("missing-key", "bounce")                      \
    TEXT("cipher", "aes-256-cbc")                      \
    FLAG("oaep", cfg_false)                            \
    FLAG("pss", cfg_false)                             \
    TEXT("hash", "sha256")

#define CONF_OPTIONS_OUTBOUND(TEXT, LIST, NUMBER, FLAG) \
    TEXT("profile", NULL)                               \
    TEXT("profile-header", NULL)                        \
    TEXT("local-recipients", "protect")

#define CONF_OPTIONS_INBOUND(TEXT, LIST, NUMBER, FLAG) \
    FLAG("verify", cfg_true)                           \
    FLAG("decrypt", cfg_true)                          \
    TEXT("signature", "keep")                          \
    FLAG("legacy-ciphers", cfg_false)

// The sections themselves, and the table above that each one has.
#define CONF_SECTIONS(X)                 \
    X("identity", CONF_OPTIONS_IDENTITY) \
    X("profile", CONF_OPTIONS_PROFILE)   \
    X("outbound", CONF_OPTIONS_OUTBOUND) \
    X("inbound", CONF_OPTIONS_INBOUND)
