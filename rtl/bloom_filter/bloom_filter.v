// The Bloom filters of one functional unit: NBF vectors of M bits, each with K hashes of its own. A key is the APX top
// bits of all OPS operands, operand 0 highest. The answer to the key of cycle t is there in t+2: hash and decoder in one
// cycle, match lines in the next. The lowest filter that says hit answers.
//
// An address bit is the parity of the key and a row of coefficients: row (f*K + j)*$clog2(M) + b gives bit b of hash j of
// filter f. A pattern is stored through the hashes too, one per cycle; nothing is asked in that cycle.
module bloom_filter #(
    parameter integer APX = 9,
    parameter integer OPS = 2,
    parameter integer NBF = 30,
    parameter integer M = 64,
    parameter integer K = 2
) (
    input  wire                               clk,
    input  wire                               rst,

    input  wire                               cfg_we,
    input  wire [$clog2(NBF*K*$clog2(M))-1:0] cfg_addr,
    input  wire [OPS*APX-1:0]                 cfg_row,

    input  wire                               prog_clear,
    input  wire                               prog_we,
    input  wire [$clog2(NBF)-1:0]             prog_bf,
    input  wire [OPS*APX-1:0]                 prog_key,

    input  wire                               in_valid,
    input  wire [OPS*APX-1:0]                 in_key,

    output reg                                out_valid,
    output reg                                out_hit,
    output reg  [$clog2(NBF)-1:0]             out_bf,
    output reg  [31:0]                        cnt_query,
    output reg  [31:0]                        cnt_hit
);
    localparam LOGM = $clog2(M);
    localparam ROWS = NBF*K*LOGM;
    localparam BF = $clog2(NBF);

    reg  [OPS*APX-1:0] rows [0:ROWS-1];
    reg  [NBF*M-1:0]   vectors;

    wire [OPS*APX-1:0] key = prog_we ? prog_key : in_key;
    reg                asked, stored;
    reg  [BF-1:0]      bf1;
    reg  [ROWS-1:0]    addr;

    reg                hit, all;
    reg  [BF-1:0]      bf;
    reg  [M-1:0]       line, decoded;
    reg  [NBF*M-1:0]   set;
    integer            f, j, r;

    // Match lines, and the bits a pattern sets in its own filter.
    always @* begin
        hit = 1'b0;
        bf = {BF{1'b0}};
        set = {NBF*M{1'b0}};
        line = {M{1'b0}};
        decoded = {M{1'b0}};
        all = 1'b0;
        for (f = NBF - 1; f >= 0; f = f - 1) begin
            line = vectors[f*M +: M];
            decoded = {M{1'b0}};
            for (j = 0; j < K; j = j + 1) decoded[addr[(f*K + j)*LOGM +: LOGM]] = 1'b1;
            all = (line & decoded) == decoded;
            if (all) begin
                hit = 1'b1;
                bf = f[BF-1:0];
            end
            if (bf1 == f[BF-1:0]) set[f*M +: M] = decoded;
        end
    end

    always @(posedge clk) begin
        if (cfg_we) rows[cfg_addr] <= cfg_row;
    end

    always @(posedge clk) begin
        if (in_valid || prog_we)
            for (r = 0; r < ROWS; r = r + 1) addr[r] <= ^(key & rows[r]);
        bf1 <= prog_bf;
        if (prog_clear) vectors <= {NBF*M{1'b0}};
        else if (stored) vectors <= vectors | set;
        if (rst) begin
            asked <= 1'b0;
            stored <= 1'b0;
            out_valid <= 1'b0;
            out_hit <= 1'b0;
            out_bf <= {BF{1'b0}};
            cnt_query <= 32'd0;
            cnt_hit <= 32'd0;
        end else begin
            asked <= in_valid;
            stored <= prog_we;
            out_valid <= asked;
            out_hit <= asked && hit;
            out_bf <= asked && hit ? bf : {BF{1'b0}};
            cnt_query <= cnt_query + {31'd0, asked};
            cnt_hit <= cnt_hit + {31'd0, asked && hit};
        end
    end
endmodule
