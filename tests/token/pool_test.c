// SPDX-License-Identifier: Apache-2.0
// More threads than sessions; and every wait ends.
#include "tests/token/known.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { THREADS = 16, ROUNDS = 12, POOL = 4 };

static atomic_uint done;

static void *work(void *arg)
{
    int number = (int)(intptr_t)arg;
    struct secret out;
    if (secret_init(&out, 4096, NULL) != ERR_OK)
        return NULL;
    for (int i = 0; i < ROUNDS; i++) {
        struct token_session *session = NULL;
        if (token_session_get(fixture.token, deadline_in(60000), &session, NULL) != ERR_OK)
            break;
        bool right = false;
        enum err err =
            known_run(session, (enum known)((number + i) % KNOWN_COUNT), &out, &right, NULL);
        token_session_put(session);
        if (err || !right)
            break;
        atomic_fetch_add(&done, 1);
    }
    secret_clear(&out);
    return NULL;
}

static void threads_share_the_pool(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    done = 0;
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(done, THREADS * ROUNDS);
}

static void waits_end(void **state)
{
    (void)state;
    struct token_session *sessions[POOL], *one_more = NULL;
    struct detail detail = {0};
    for (int i = 0; i < POOL; i++)
        assert_ok(token_session_get(fixture.token, deadline_in(1000), &sessions[i], &detail),
                  &detail);
    deadline_t started = clock_ms();
    assert_err(token_session_get(fixture.token, deadline_in(300), &one_more, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "busy"));
    assert_true(clock_ms() - started >= 300);
    assert_err(token_session_get(fixture.token, clock_ms(), &one_more, &detail), ERR_TEMP);
    token_session_put(sessions[2]);
    assert_ok(token_session_get(fixture.token, deadline_in(1000), &one_more, &detail), &detail);
    assert_ptr_equal(one_more, sessions[2]);
    for (int i = 0; i < POOL; i++)
        token_session_put(sessions[i]);
}

static void *put_soon(void *session)
{
    struct timespec soon = {.tv_nsec = 200000000};
    nanosleep(&soon, NULL);
    token_session_put(session);
    return NULL;
}

static void a_returned_session_wakes(void **state)
{
    (void)state;
    struct token_session *sessions[POOL], *one_more = NULL;
    struct detail detail = {0};
    pthread_t thread;
    for (int i = 0; i < POOL; i++)
        assert_ok(token_session_get(fixture.token, deadline_in(1000), &sessions[i], &detail),
                  &detail);
    assert_int_equal(pthread_create(&thread, NULL, put_soon, sessions[0]), 0);
    assert_ok(token_session_get(fixture.token, deadline_in(20000), &one_more, &detail), &detail);
    pthread_join(thread, NULL);
    sessions[0] = one_more;
    for (int i = 0; i < POOL; i++)
        token_session_put(sessions[i]);
}

static int begin(void **state)
{
    (void)state;
    fixture_begin(SOFTHSM_RSA2048 | SOFTHSM_P256, softhsm_module(), POOL);
    token_session_put(fixture.session);
    fixture.session = NULL;
    known_begin();
    return 0;
}

static int end(void **state)
{
    known_end();
    return fixture_end(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_the_pool),
        cmocka_unit_test(waits_end),
        cmocka_unit_test(a_returned_session_wakes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
