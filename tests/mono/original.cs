// A minimal version of the original programs of seed 000, which uses .NET's own BinaryWriter and
// BinaryReader. tests/mono.rs compiles and runs it.
//
//   original.exe client REVISION PORT   requests a port from the portal on PORT and performs the
//                                       handshake with its worker
//   original.exe server REVISION        prints "portal PORT", and is portal and worker for one client
//
// From then on, every line of standard input is written as a string, and every received string
// becomes a line of standard output. The last line is "(closed)".

using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading;

static class Original
{
    const string Passcode = "123456789";
    static readonly TextWriter Screen =
        TextWriter.Synchronized(new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { AutoFlush = true });
    static readonly TextReader Keyboard = new StreamReader(Console.OpenStandardInput(), new UTF8Encoding(false));

    static void Main(string[] arguments)
    {
        bool plain = arguments[1] == "0", datagrams = arguments[1] == "2";
        if (arguments[0] == "client")
            Talk(Visit(int.Parse(arguments[2]), plain, datagrams));
        else
            Talk(Serve(plain, datagrams));
        // The other thread may be blocked in a read.
        Environment.Exit(0);
    }

    static NetworkStream Visit(int portal, bool plain, bool datagrams)
    {
        string answer = datagrams ? AskByDatagram(portal) : AskByConnection(portal);
        Screen.WriteLine(answer);
        Match ticket = Regex.Match(answer, plain
            ? @"^SERVER>>>Port=>(\d+),HandshakeCode=(\d+)$"
            : @"<Port>(\d+)</Port><HandshakePasscode>(\d+)</HandshakePasscode>");
        string port = ticket.Groups[1].Value, passcode = ticket.Groups[2].Value;
        NetworkStream stream = new TcpClient("127.0.0.1", int.Parse(port)).GetStream();
        new BinaryWriter(stream).Write(plain
            ? "CLIENT" + port + ">>>HandshakeCode=" + passcode
            : "<CLIENT><HandshakePasscode>" + passcode + "</HandshakePasscode></CLIENT>");
        return stream;
    }

    static string AskByConnection(int portal)
    {
        using (TcpClient client = new TcpClient("127.0.0.1", portal))
            return new BinaryReader(client.GetStream()).ReadString();
    }

    static string AskByDatagram(int portal)
    {
        using (UdpClient client = new UdpClient("127.0.0.1", portal))
        {
            byte[] request = Encoding.ASCII.GetBytes("<CLIENT><command>PORT</command></CLIENT>");
            client.Send(request, request.Length);
            IPEndPoint from = null;
            return Encoding.ASCII.GetString(client.Receive(ref from));
        }
    }

    static NetworkStream Serve(bool plain, bool datagrams)
    {
        TcpListener worker = new TcpListener(IPAddress.Loopback, 0);
        worker.Start();
        int port = ((IPEndPoint)worker.LocalEndpoint).Port;
        string ticket = plain
            ? "SERVER>>>Port=>" + port + ",HandshakeCode=" + Passcode
            : "<SERVER type='worker'><Port>" + port + "</Port><HandshakePasscode>" + Passcode + "</HandshakePasscode></SERVER>";
        if (datagrams)
        {
            UdpClient portal = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
            Screen.WriteLine("portal " + ((IPEndPoint)portal.Client.LocalEndPoint).Port);
            IPEndPoint from = null;
            portal.Receive(ref from);
            byte[] answer = Encoding.ASCII.GetBytes(ticket);
            portal.Send(answer, answer.Length, from);
        }
        else
        {
            TcpListener portal = new TcpListener(IPAddress.Loopback, 0);
            portal.Start();
            Screen.WriteLine("portal " + ((IPEndPoint)portal.LocalEndpoint).Port);
            using (TcpClient caller = portal.AcceptTcpClient())
                new BinaryWriter(caller.GetStream()).Write(ticket);
        }
        NetworkStream stream = worker.AcceptTcpClient().GetStream();
        Screen.WriteLine(new BinaryReader(stream).ReadString());
        new BinaryWriter(stream).Write(plain
            ? "SERVER" + port + ">>> Connection successful"
            : "<SERVER type='worker' port='" + port + "'><message>Connection successful</message></SERVER>");
        return stream;
    }

    static void Talk(NetworkStream stream)
    {
        Thread listener = new Thread(() =>
        {
            BinaryReader reader = new BinaryReader(stream);
            try
            {
                while (true) Screen.WriteLine(reader.ReadString());
            }
            catch (IOException)
            {
                Screen.WriteLine("(closed)");
            }
        });
        listener.Start();
        BinaryWriter writer = new BinaryWriter(stream);
        string line;
        while ((line = Keyboard.ReadLine()) != null) writer.Write(line);
        listener.Join();
    }
}
