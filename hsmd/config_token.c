// SPDX-License-Identifier: Apache-2.0
// What hsmd.conf says about tokens.
#include <stdio.h>
#include <string.h>

#include "hsmd/base/text.h"
#include "hsmd/config_internal.h"

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

// A module is initialised once, whichever of its tokens comes first. By another path it is the same
// one too, which is seen when it is loaded (module_get).
static enum err check_init_args(const struct config *config, const cfg_t *cfg,
                                const struct config_token *token, struct detail *detail)
{
    char problem[TEXT_NAME_MAX + 160];
    for (size_t i = 0; i < config->token_count; i++) {
        const struct config_token *other = &config->tokens[i];
        if (strcmp(other->module, token->module) != 0 ||
            is_same(other->init_args, token->init_args))
            continue;
        snprintf(problem, sizeof problem,
                 "init-args must be those of token %s: a module is initialised once for all its "
                 "tokens; take another hsmd for what needs others",
                 other->name);
        return config_complain(cfg, detail, problem);
    }
    return ERR_OK;
}

enum err config_take_token(struct config *config, cfg_t *cfg, struct detail *detail)
{
    struct config_token *token = &config->tokens[config->token_count];
    *token = (struct config_token){
        .name = cfg_title(cfg),
        .label = config_optional(cfg, "label"),
        .serial = config_optional(cfg, "serial"),
        .init_args = config_optional(cfg, "init-args"),
        .pin_credential = config_optional(cfg, "pin-credential"),
        .sessions = (unsigned)cfg_getint(cfg, "sessions"),
        .healing = cfg_getbool(cfg, "healing"),
        .copy_keys = cfg_getbool(cfg, "copy-keys"),
    };
    if (!config_optional(cfg, "module"))
        return config_complain(cfg, detail, "module is missing");
    if (!token->label && !token->serial)
        return config_complain(cfg, detail, "label or serial must be given");
    if (config_optional(cfg, "pin-file") && token->pin_credential)
        return config_complain(cfg, detail, "either pin-file or pin-credential may be given");
    enum err err = config_resolve(config, config_optional(cfg, "module"), &token->module);
    if (err == ERR_OK)
        err = config_resolve(config, config_optional(cfg, "pin-file"), &token->pin_file);
    if (err == ERR_OK)
        err = check_init_args(config, cfg, token, detail);
    config->token_count += err == ERR_OK;
    return err;
}
