/* Calls of libpq itself: bound parameters in both formats, a prepared statement, a pipeline. */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *connection;

static void check(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, PQerrorMessage(connection));
        exit(1);
    }
}

static void run(const char *sql) {
    PGresult *result = PQexec(connection, sql);
    check(PQresultStatus(result) == PGRES_COMMAND_OK, sql);
    PQclear(result);
}

static void refused(PGresult *result, const char *what) {
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    check(code && strcmp(code, "0A000") == 0, what);
    PQclear(result);
}

static void receive(const char *payload) {
    PGnotify *notify;
    while ((notify = PQnotifies(connection)) == NULL) {
        struct pollfd socket = {.fd = PQsocket(connection), .events = POLLIN};
        check(poll(&socket, 1, 10000) == 1, payload);
        check(PQconsumeInput(connection), payload);
    }
    check(strcmp(notify->extra, payload) == 0, payload);
    PQfreemem(notify);
}

int main(void) {
    int version = PQlibVersion();
    printf("%d.%d\n", version / 10000, version % 10000);
    connection = PQconnectdb("");
    check(PQstatus(connection) == CONNECTION_OK, "connecting");
    run("LISTEN orders");
    run("NOTIFY orders, 'plain'");
    run("NOTIFY orders, $$it's$$");

    const char *texts[] = {"orders", "bound é"};
    int lengths[] = {(int)strlen(texts[0]), (int)strlen(texts[1])}, formats[] = {1, 1};
    PGresult *result =
        PQexecParams(connection, "SELECT pg_notify($1, $2)", 2, NULL, texts, lengths, formats, 1);
    check(PQresultStatus(result) == PGRES_TUPLES_OK, "pg_notify");
    PQclear(result);
    run("BEGIN");
    run("NOTIFY orders, 'rolled back'");
    run("ROLLBACK");
    run("BEGIN");
    run("NOTIFY orders, 'committed'");
    run("COMMIT");
    receive("plain");
    receive("it's");
    receive("bound é");
    receive("committed");

    const char *id[] = {"7"};
    refused(PQexec(connection, "CREATE TABLE stock (id int)"), "CREATE TABLE");
    const char *missing = "SELECT id FROM missing WHERE id = $1";
    refused(PQexecParams(connection, missing, 1, NULL, id, NULL, NULL, 0), missing);

    const char *stock = "SELECT id, name FROM stock WHERE id = $1";
    result = PQprepare(connection, "stock", stock, 0, NULL);
    check(PQresultStatus(result) == PGRES_COMMAND_OK, "PQprepare");
    PQclear(result);
    result = PQdescribePrepared(connection, "stock");
    check(PQnparams(result) == 1 && PQparamtype(result, 0) == 23, "PQdescribePrepared");
    PQclear(result);
    uint32_t seven = htonl(7);
    const char *binary[] = {(const char *)&seven};
    int length[] = {4};
    result = PQexecPrepared(connection, "stock", 1, binary, length, formats, 1);
    check(PQntuples(result) == 1 && PQgetlength(result, 0, 0) == 4, "PQexecPrepared");
    check(memcmp(PQgetvalue(result, 0, 0), &seven, 4) == 0, "a binary result");
    check(strcmp(PQgetvalue(result, 0, 1), "ink") == 0, "a text in a binary result");
    PQclear(result);

    check(PQenterPipelineMode(connection), "PQenterPipelineMode");
    check(PQsendQueryParams(connection, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0), "a pipeline");
    check(PQsendQueryParams(connection, "SELECT 2", 0, NULL, NULL, NULL, NULL, 0), "a pipeline");
    check(PQpipelineSync(connection), "PQpipelineSync");
    for (int one = 1; one <= 2; one++) {
        result = PQgetResult(connection);
        check(PQntuples(result) == 1 && atoi(PQgetvalue(result, 0, 0)) == one, "a pipeline");
        PQclear(result);
        check(PQgetResult(connection) == NULL, "a pipeline");
    }
    result = PQgetResult(connection);
    check(PQresultStatus(result) == PGRES_PIPELINE_SYNC, "the end of a pipeline");
    PQclear(result);
    PQfinish(connection);
    return 0;
}
