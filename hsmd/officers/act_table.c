// SPDX-License-Identifier: Apache-2.0
#include "hsmd/officers/act_table.h"

#include <limits.h>

#include "hsmd/registry/budget.h"

_Static_assert(sizeof(enum wire_key_type) == sizeof(unsigned) &&
                   sizeof(enum wire_purpose) == sizeof(unsigned) &&
                   sizeof(enum officer_role) == sizeof(unsigned) &&
                   sizeof(enum hash) == sizeof(unsigned),
               "ACT_FIELD_ENUM reads and writes enums as unsigned");

static const char *type_name(unsigned number)
{
    switch ((enum wire_key_type)number) {
#define X(symbol, value, name, rest) \
    case symbol:                     \
        return name;
        WIRE_KEY_TYPES(X)
#undef X
    }
    return NULL;
}

static const char *purpose_name(unsigned number)
{
    return wire_purpose_name((enum wire_purpose)number);
}

static const char *role_name(unsigned number)
{
    return officer_role_name((enum officer_role)number);
}

#define K(kind) (UINT64_C(1) << (kind))
#define MEMBER(member) offsetof(struct act, member)
#define ALL_KEYS                                                                              \
    (K(ACT_KEY_GENERATE) | K(ACT_KEY_IMPORT) | K(ACT_KEY_ADOPT) | K(ACT_KEY_PLACE) |          \
     K(ACT_KEY_REQUEST) | K(ACT_KEY_SELF_SIGN) | K(ACT_KEY_CERTIFICATE) | K(ACT_KEY_ENABLE) | \
     K(ACT_KEY_DISABLE) | K(ACT_KEY_RETIRE) | K(ACT_KEY_DESTROY) | K(ACT_KEY_LIMIT))
#define ALL_NAMED                                                                    \
    (ALL_KEYS | K(ACT_CLIENT_ADD) | K(ACT_CLIENT_REVOKE) | GRANTS | OFFICER_CHANGE | \
     K(ACT_UNLOCK) | K(ACT_LOCK))
#define GRANTS (K(ACT_GRANT) | K(ACT_UNGRANT))
#define OFFICER_CHANGE (K(ACT_OFFICER_ADD) | K(ACT_OFFICER_REMOVE))
#define NEW_KEYS (K(ACT_KEY_GENERATE) | K(ACT_KEY_IMPORT) | K(ACT_KEY_ADOPT))
#define IN_PLACE (K(ACT_KEY_ADOPT) | K(ACT_KEY_PLACE))
#define LIMITED (K(ACT_KEY_LIMIT) | K(ACT_GRANT))
#define SIGNED (K(ACT_KEY_REQUEST) | K(ACT_KEY_SELF_SIGN))
#define CERTIFIED (K(ACT_KEY_CERTIFICATE) | K(ACT_KEY_IMPORT))

const struct act_field act_fields[] = {
    {"name", ACT_FIELD_NAME, MEMBER(name), 1, TEXT_NAME_MAX, ALL_NAMED, NULL},
    {"key", ACT_FIELD_NAME, MEMBER(key), 1, TEXT_NAME_MAX, GRANTS, NULL},
    {"tokens", ACT_FIELD_NAMES, MEMBER(tokens), 1, 1, K(ACT_KEY_GENERATE) | IN_PLACE, NULL},
    {"tokens", ACT_FIELD_NAMES, MEMBER(tokens), 1, ACT_PLACES_MAX, K(ACT_KEY_IMPORT), NULL},
    {"tokens", ACT_FIELD_NAMES, MEMBER(tokens), 0, ACT_PLACES_MAX, K(ACT_KEY_DESTROY), NULL},
    {"label", ACT_FIELD_TEXT, MEMBER(label), 0, ACT_LABEL_MAX, IN_PLACE, NULL},
    {"id", ACT_FIELD_BIN, MEMBER(id), 0, ACT_ID_MAX, IN_PLACE, NULL},
    {"type", ACT_FIELD_ENUM, MEMBER(type), 0, UINT_MAX, K(ACT_KEY_GENERATE), type_name},
    {"bits", ACT_FIELD_NUMBER, MEMBER(bits), 1, WIRE_BITS_MAX, K(ACT_KEY_GENERATE), NULL},
    {"purpose", ACT_FIELD_ENUM, MEMBER(purpose), 0, UINT_MAX, NEW_KEYS, purpose_name},
    {"operations", ACT_FIELD_OPERATIONS, MEMBER(operations), 0, 0, K(ACT_GRANT), NULL},
    {"algorithms", ACT_FIELD_ALGORITHMS, MEMBER(algorithms), 0, 0, K(ACT_GRANT) | NEW_KEYS, NULL},
    {"per-minute", ACT_FIELD_LIMIT, MEMBER(per_minute), 0, BUDGET_LIMIT_MAX, LIMITED, NULL},
    {"per-hour", ACT_FIELD_LIMIT, MEMBER(per_hour), 0, BUDGET_LIMIT_MAX, LIMITED, NULL},
    {"total", ACT_FIELD_LIMIT, MEMBER(total), 0, BUDGET_LIMIT_MAX, LIMITED, NULL},
    {"failures-per-hour", ACT_FIELD_LIMIT, MEMBER(failures_per_hour), 0, BUDGET_LIMIT_MAX, LIMITED,
     NULL},
    {"public-key", ACT_FIELD_PUBLIC_KEY, MEMBER(public_key), 1, WIRE_PUBLIC_KEY_MAX,
     K(ACT_KEY_IMPORT), NULL},
    {"signing-key", ACT_FIELD_SIGNING_KEY, MEMBER(public_key), OFFICER_SIGNING_KEY_SIZE,
     OFFICER_SIGNING_KEY_SIZE, K(ACT_OFFICER_ADD), NULL},
    {"public-key", ACT_FIELD_CURVE, MEMBER(curve_key), CURVE_TEXT_SIZE - 1, CURVE_TEXT_SIZE - 1,
     K(ACT_CLIENT_ADD), NULL},
    {"curve-key", ACT_FIELD_CURVE, MEMBER(curve_key), CURVE_TEXT_SIZE - 1, CURVE_TEXT_SIZE - 1,
     K(ACT_OFFICER_ADD), NULL},
    {"role", ACT_FIELD_ENUM, MEMBER(role), 0, UINT_MAX, K(ACT_OFFICER_ADD), role_name},
    {"number", ACT_FIELD_NUMBER, MEMBER(number), 1, ACT_QUORUM_MAX, K(ACT_QUORUM), NULL},
    {"certificates", ACT_FIELD_CERTIFICATES, MEMBER(certificates), 1, WIRE_CERTIFICATES_MAX,
     K(ACT_KEY_CERTIFICATE), NULL},
    {"certificates", ACT_FIELD_CERTIFICATES, MEMBER(certificates), 0, WIRE_CERTIFICATES_MAX,
     K(ACT_KEY_IMPORT), NULL},
    {"common-name", ACT_FIELD_TEXT, MEMBER(common_name), 1, ACT_TEXT_MAX, SIGNED, NULL},
    {"organization", ACT_FIELD_TEXT, MEMBER(organization), 0, ACT_TEXT_MAX, SIGNED, NULL},
    {"unit", ACT_FIELD_TEXT, MEMBER(unit), 0, ACT_TEXT_MAX, SIGNED, NULL},
    {"city", ACT_FIELD_TEXT, MEMBER(city), 0, ACT_TEXT_MAX, SIGNED, NULL},
    {"state", ACT_FIELD_TEXT, MEMBER(state), 0, ACT_TEXT_MAX, SIGNED, NULL},
    {"country", ACT_FIELD_COUNTRY, MEMBER(country), 0, 2, SIGNED, NULL},
    {"domains", ACT_FIELD_TEXTS, MEMBER(domains), 0, ACT_LIST_MAX, SIGNED, NULL},
    {"emails", ACT_FIELD_TEXTS, MEMBER(emails), 0, ACT_LIST_MAX, SIGNED, NULL},
    {"hash", ACT_FIELD_HASH, MEMBER(hash), 0, UINT_MAX, SIGNED, NULL},
    {"pss", ACT_FIELD_FLAG, MEMBER(pss), 0, 1, SIGNED, NULL},
    {"any-name", ACT_FIELD_FLAG, MEMBER(any_name), 0, 1, SIGNED | CERTIFIED, NULL},
    {"days", ACT_FIELD_NUMBER, MEMBER(days), 1, ACT_DAYS_MAX, K(ACT_KEY_SELF_SIGN), NULL},
};

const size_t act_fields_count = sizeof act_fields / sizeof *act_fields;
